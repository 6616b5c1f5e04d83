//! Finds the files that meter a GPU: hwmon's `energyN_input` counts microjoules, `power1_average` and
//! `power1_input` are microwatts, and `gpu_metrics` of some AMD GPUs has a counter (`accumulator.rs`). Which
//! of them covers the whole GPU depends on the driver. `gpu.rs` reads them.

use std::path::{Path, PathBuf};

use wattrace_meter::sysfs;

use crate::accumulator;

/// A file that meters a GPU or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sensor {
    /// The file.
    pub(crate) path: PathBuf,
    /// The part of the GPU that it meters; `None`: the whole GPU.
    pub(crate) part: Option<String>,
    /// What the number means.
    pub(crate) quantity: Quantity,
}

/// What a sensor's number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Cumulative microjoules.
    Energy,
    /// Microwatts.
    Power,
    /// The counter in amdgpu's table, of the GPU with this PCI number.
    Accumulator(Option<u16>),
}

/// An energy counter among the files of a chip.
struct Counter {
    path: PathBuf,
    /// The driver's name for it: xe labels them `card` and `pkg`; i915 has a chip for each tile, `i915_gt0`.
    name: String,
}

/// The chips of the GPU in `device`.
fn chips(device: &Path) -> Vec<PathBuf> {
    let hwmon = device.join("hwmon");
    sysfs::names(&hwmon).unwrap_or_default().iter().map(|name| hwmon.join(name)).collect()
}

/// Whether the GPU in `device` is inside a processor. Its power is that of the whole processor, which RAPL
/// meters already. The chip of an AMD processor is the only one with the voltage of the northbridge; newer
/// ones may lack that, but have a table of their own, which is read only if the GPU is `awake`.
pub(crate) fn is_integrated(device: &Path, driver: &str, awake: bool) -> bool {
    let label = |chip: &PathBuf| sysfs::read_word(&chip.join("in1_label")).is_some_and(|l| l == "vddnb");
    let table = || accumulator::read(&device.join(accumulator::FILE));
    driver == "amdgpu"
        && (chips(device).iter().any(label)
            || awake && table().is_ok_and(|table| accumulator::is_of_processor(&table)))
}

/// The sensors of the GPU in `device`, which is not inside a processor or has counters of its own.
pub(crate) fn find(device: &Path, driver: &str, integrated: bool) -> Vec<Sensor> {
    let chips = chips(device);
    let mut counters: Vec<Counter> = chips.iter().flat_map(|chip| counters(chip, driver)).collect();
    if !counters.is_empty() {
        // The card contains the package, and the chip of the whole GPU contains its tiles.
        let rank = |name: &str| match name {
            "card" => 0,
            "" => 1,
            "pkg" => 2,
            _ => 3,
        };
        counters.sort_by(|a, b| (rank(&a.name), &a.path).cmp(&(rank(&b.name), &b.path)));
        let mut sensors: Vec<Sensor> = Vec::new();
        for Counter { path, name } in counters {
            let part = (!sensors.is_empty()).then(|| unique(name, &sensors));
            sensors.push(Sensor { path, part, quantity: Quantity::Energy });
        }
        return sensors;
    }
    let chip = chips.iter().find(|chip| chip_name(chip) == driver);
    let Some(chip) = chip.filter(|_| !integrated) else {
        return Vec::new();
    };
    // The average over some time is more exact than the power of a moment.
    let files = ["power1_average", "power1_input"].map(|file| chip.join(file));
    let file = files.into_iter().find(|path| path.exists());
    file.map(|path| Sensor { path, part: None, quantity: Quantity::Power }).into_iter().collect()
}

/// `name`, with a number after it if a part among `sensors` has that name already.
fn unique(name: String, sensors: &[Sensor]) -> String {
    let plain = if name.is_empty() { "part".to_owned() } else { name };
    let mut name = plain.clone();
    for nth in 1.. {
        if sensors.iter().all(|sensor| sensor.part.as_ref() != Some(&name)) {
            break;
        }
        name = format!("{plain}-{nth}");
    }
    name
}

fn chip_name(chip: &Path) -> String {
    sysfs::read_word(&chip.join("name")).unwrap_or_default()
}

fn counters(chip: &Path, driver: &str) -> Vec<Counter> {
    let chip_name = chip_name(chip);
    let tile = chip_name.strip_prefix(driver).map(|rest| rest.trim_start_matches('_').to_owned());
    let named = |file: &String| {
        let number = file.strip_prefix("energy")?.strip_suffix("_input")?;
        let number: u32 = number.parse().ok()?;
        let label = sysfs::read_word(&chip.join(format!("energy{number}_label")));
        let name = label.map(|label| plain(&label)).or_else(|| tile.clone());
        let name = name.filter(|name| number == 1 || !name.is_empty());
        Some(Counter { path: chip.join(file), name: name.unwrap_or_else(|| format!("{number}")) })
    };
    sysfs::names(chip).unwrap_or_default().iter().filter_map(named).collect()
}

/// Makes a label fit for a domain's name.
fn plain(label: &str) -> String {
    label.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// The counter in amdgpu's table of the GPU in `device`, if it counts and its unit is known.
pub(crate) fn accumulator(device: &Path, model: Option<u16>) -> Option<Sensor> {
    let path = device.join(accumulator::FILE);
    accumulator::microjoules(&accumulator::read(&path).ok()?, model)?;
    Some(Sensor { path, part: None, quantity: Quantity::Accumulator(model) })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::accumulator::tests::table;

    fn device(files: &[(&str, &str)]) -> tempfile::TempDir {
        let device = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = device.path().join("hwmon").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        device
    }

    fn of(driver: &str, files: &[(&str, &str)]) -> Vec<(String, Option<String>, Quantity)> {
        let device = device(files);
        let file = |sensor: &Sensor| {
            sensor.path.strip_prefix(device.path().join("hwmon")).unwrap().to_str().unwrap().to_owned()
        };
        let integrated = is_integrated(device.path(), driver, true);
        find(device.path(), driver, integrated)
            .iter()
            .map(|s| (file(s), s.part.clone(), s.quantity))
            .collect()
    }

    #[test]
    fn a_counter_is_better_than_power_and_a_mean_than_a_moment() {
        let power =
            [("hwmon3/name", "amdgpu\n"), ("hwmon3/power1_input", "1"), ("hwmon3/power1_average", "1")];
        assert_eq!(of("amdgpu", &power), [("hwmon3/power1_average".into(), None, Quantity::Power)]);
        assert_eq!(of("amdgpu", &power[..2]), [("hwmon3/power1_input".into(), None, Quantity::Power)]);
        let both = [power.as_slice(), &[("hwmon3/energy1_input", "1")]].concat();
        assert_eq!(of("amdgpu", &both), [("hwmon3/energy1_input".into(), None, Quantity::Energy)]);
    }

    #[test]
    fn the_power_of_a_processor_with_a_gpu_inside_is_not_its_gpu_s() {
        let files =
            [("hwmon3/name", "amdgpu"), ("hwmon3/power1_input", "1"), ("hwmon3/in1_label", "vddnb\n")];
        assert!(of("amdgpu", &files).is_empty());
        let device = device(&files[..2]);
        assert!(!is_integrated(device.path(), "amdgpu", true));
        fs::write(device.path().join("gpu_metrics"), table(2, 4, 24, 7)).unwrap();
        assert!(is_integrated(device.path(), "amdgpu", true));
        assert!(!is_integrated(device.path(), "amdgpu", false), "reading would wake it");
    }

    #[test]
    fn the_accumulator_counts_if_it_has_counted() {
        let device = device(&[]);
        let write = |counts| fs::write(device.path().join("gpu_metrics"), table(1, 3, 24, counts)).unwrap();
        write(0);
        assert_eq!(accumulator(device.path(), Some(0x7408)), None, "a second die");
        write(5);
        assert_eq!(accumulator(device.path(), Some(0x744c)), None, "of no known unit");
        let found = accumulator(device.path(), Some(0x7408)).unwrap();
        assert_eq!((found.part, found.quantity), (None, Quantity::Accumulator(Some(0x7408))));
    }

    #[test]
    fn xe_s_card_contains_its_package_and_alone_a_package_is_the_whole() {
        let pkg = [("hwmon1/name", "xe"), ("hwmon1/energy2_input", "1"), ("hwmon1/energy2_label", "pkg\n")];
        let card = [("hwmon1/energy1_input", "1"), ("hwmon1/energy1_label", "card\n")];
        assert_eq!(of("xe", &pkg), [("hwmon1/energy2_input".into(), None, Quantity::Energy)]);
        assert_eq!(
            of("xe", &[pkg.as_slice(), &card].concat()),
            [
                ("hwmon1/energy1_input".into(), None, Quantity::Energy),
                ("hwmon1/energy2_input".into(), Some("pkg".into()), Quantity::Energy),
            ]
        );
    }

    #[test]
    fn parts_have_names_that_differ() {
        let files = [
            ("hwmon1/name", "xe"),
            ("hwmon1/energy1_input", "1"),
            ("hwmon2/name", "xe"),
            ("hwmon2/energy1_input", "1"),
            ("hwmon2/energy2_input", "1"),
            ("hwmon2/energy2_label", "part"),
        ];
        let parts: Vec<_> = of("xe", &files).into_iter().map(|(_, part, _)| part).collect();
        assert_eq!(parts, [None, Some("part".into()), Some("part-1".into())]);
    }

    #[test]
    fn i915_s_tiles_are_parts_of_its_card() {
        let files = [
            ("hwmon1/name", "i915_gt0"),
            ("hwmon1/energy1_input", "1"),
            ("hwmon2/name", "i915"),
            ("hwmon2/energy1_input", "1"),
        ];
        assert_eq!(
            of("i915", &files),
            [
                ("hwmon2/energy1_input".into(), None, Quantity::Energy),
                ("hwmon1/energy1_input".into(), Some("gt0".into()), Quantity::Energy),
            ]
        );
    }
}
