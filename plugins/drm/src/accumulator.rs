//! Parses `gpu_metrics`, a table in which amdgpu shows what the firmware of an AMD GPU measures: which kind
//! of GPU it is and, on data-centre GPUs, a counter of energy, which AMD SMI shows, too.
//!
//! The layouts are those of the kernel's `drivers/gpu/drm/amd/include/kgd_pp_interface.h`.

use std::io::Read;
use std::path::Path;

use wattrace_meter::sysfs::{self, Fault};

/// The file in a GPU's directory in sysfs.
pub(crate) const FILE: &str = "gpu_metrics";
/// More bytes than any version of the table has.
const LONGEST: u64 = 1 << 16;
/// GPUs of the MI200 series: the MI250X and MI250, whose two dies are GPUs of their own, and the MI210.
const MI200: [u16; 4] = [0x7408, 0x740c, 0x740f, 0x7410];
/// The MI250X and MI250.
pub(crate) const OF_TWO_DIES: [u16; 2] = [0x7408, 0x740c];

/// Where a version of the table has `energy_accumulator`, 64 bits wide.
struct Layout {
    /// Of format 1, which is that of GPUs that are cards or modules.
    content: u8,
    offset: usize,
    /// The models whose counter is known to count 2^-16 J; empty: all that use this version.
    models: &'static [u16],
}

/// The header gives the unit, 2^-16 J (15.259 µJ), from version 1.4 on. For the MI200 series, which uses 1.1
/// to 1.3, the interface of its firmware does (`smu13_driver_if_aldebaran.h`). The counters of consumer GPUs
/// in these versions have 32 bits and no documented unit. In 1.0 the counter has 32 bits; 1.9 is no fixed
/// table.
static LAYOUTS: [Layout; 8] = [
    Layout { content: 1, offset: 24, models: &MI200 },
    Layout { content: 2, offset: 24, models: &MI200 },
    Layout { content: 3, offset: 24, models: &MI200 },
    Layout { content: 4, offset: 24, models: &[] },
    Layout { content: 5, offset: 88, models: &[] },
    Layout { content: 6, offset: 16, models: &[] },
    Layout { content: 7, offset: 24, models: &[] },
    Layout { content: 8, offset: 24, models: &[] },
];

/// Whether the table is that of a GPU inside a processor (formats 2 and 3).
pub fn is_of_processor(table: &[u8]) -> bool {
    header(table).is_some_and(|(format, _)| matches!(format, 2 | 3))
}

/// The counter of energy in microjoules; `None`: the table has none whose meaning is known. `model` is the
/// PCI device's number.
pub fn microjoules(table: &[u8], model: Option<u16>) -> Option<i128> {
    let (format, content) = header(table)?;
    let layout = LAYOUTS.iter().find(|layout| format == 1 && layout.content == content)?;
    if !layout.models.is_empty() && !model.is_some_and(|model| layout.models.contains(&model)) {
        return None;
    }
    let bytes = table.get(layout.offset..layout.offset + 8)?;
    match u64::from_le_bytes(bytes.try_into().ok()?) {
        // The firmware does not count, or the table was never filled in. A second die has zero.
        0 | u64::MAX => None,
        // 10^6 / 2^16, without rounding before the end.
        counts => Some(i128::from(counts) * 15_625 / 1_024),
    }
}

/// Format and content revision, if the table is as long as it says.
fn header(table: &[u8]) -> Option<(u8, u8)> {
    let &[low, high, format, content, ..] = table else {
        return None;
    };
    (usize::from(u16::from_le_bytes([low, high])) <= table.len()).then_some((format, content))
}

/// The table of the GPU in `device`. The firmware writes it for each reader, which wakes a sleeping GPU.
///
/// # Errors
/// [`Fault`], which names the file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let fault = |e: std::io::Error| {
        let gone = e.kind() == std::io::ErrorKind::NotFound || e.raw_os_error() == Some(NO_DEVICE);
        Fault { gone, what: format!("{}: {e}", path.display()) }
    };
    let mut table = Vec::new();
    sysfs::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut table)).map_err(fault)?;
    Ok(table)
}

/// ENODEV: the device behind the file is gone.
const NO_DEVICE: i32 = 19;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A table whose counter is at `offset`; all other fields are not supported.
    pub(crate) fn table(format: u8, content: u8, offset: usize, counts: u64) -> Vec<u8> {
        let mut table = vec![0xff; 120];
        table[..4].copy_from_slice(&[120, 0, format, content]);
        table[offset..offset + 8].copy_from_slice(&counts.to_le_bytes());
        table
    }

    #[test]
    fn the_counter_is_found_in_each_version_whose_unit_is_known() {
        let (mi250x, mi300x, navi31) = (Some(0x7408), Some(0x74a1), Some(0x744c));
        for (content, offset, model, known) in [
            (0, 36, mi250x, false),
            (1, 24, mi250x, true),
            (2, 24, mi250x, true),
            (3, 24, mi250x, true),
            (3, 24, Some(0x740f), true),
            (3, 24, navi31, false),
            (3, 24, None, false),
            (4, 24, mi300x, true),
            (5, 88, mi300x, true),
            (6, 16, mi300x, true),
            (7, 24, mi300x, true),
            (8, 24, mi300x, true),
            (9, 24, mi300x, false),
        ] {
            let found = microjoules(&table(1, content, offset, 65_536 * 237), model);
            assert_eq!(found, known.then_some(237_000_000), "1.{content}");
        }
    }

    #[test]
    fn counts_are_converted_exactly_and_values_that_mean_nothing_are_left_out() {
        let of = |counts| microjoules(&table(1, 6, 16, counts), None);
        assert_eq!((of(1), of(1_024), of(1_025)), (Some(15), Some(15_625), Some(15_640)));
        assert_eq!(of(u64::MAX - 1), Some(i128::from(u64::MAX - 1) * 15_625 / 1_024));
        assert_eq!((of(0), of(u64::MAX)), (None, None));
        let good = table(1, 6, 16, 7);
        for length in 0..good.len() {
            assert_eq!(microjoules(&good[..length], None), None, "{length} bytes");
        }
        assert_eq!(microjoules(&[4, 0, 1, 6], None), None, "the header alone");
        assert_eq!(microjoules(&table(2, 4, 24, 7), None), None);
    }

    #[test]
    fn processors_have_formats_of_their_own() {
        let is = |format| is_of_processor(&table(format, 0, 24, 7));
        assert_eq!([is(0), is(1), is(2), is(3), is(4)], [false, false, true, true, false]);
        assert!(!is_of_processor(&[]));
    }
}
