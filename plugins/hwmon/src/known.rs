//! The channels that are known: which driver's label stands for which part of the machine, with the source of
//! each row. A meter that is known by a label is known by all labels that its firmware has used for it.
//! `classify.rs` turns rows into domains.

use wattrace_api::ResourceKind;

/// What a channel is, as a row says it. Where there is no number in the label, packages are numbered like the
/// chips of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The whole machine.
    Host,
    /// A CPU package, with its memory if the vendor's meter includes it.
    Package,
    /// The cores of a package.
    Cores,
    /// The rest of a package.
    Uncore,
    /// The memory of a package, which the package's meter includes.
    Memory,
    /// A board with a package and a GPU that has a meter of its own.
    Module,
    /// A rail of a board whose rails are known. Rails do not overlap, except that one may lie within the
    /// named one.
    Rail(Rail, Option<&'static str>),
    /// Some part of the machine.
    Unknown,
    /// A part of what another channel of the chip counts, of which there are too many: left out.
    LeftOut,
}

/// The kind of hardware behind a rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rail {
    Package,
    Gpu,
    Dram,
    Other,
}

impl Rail {
    pub(crate) fn kind(self) -> ResourceKind {
        match self {
            Rail::Package => ResourceKind::Package,
            Rail::Gpu => ResourceKind::Gpu,
            Rail::Dram => ResourceKind::Dram,
            Rail::Other => ResourceKind::Other("rail".into()),
        }
    }
}

/// One row.
struct Known {
    drivers: &'static [&'static str],
    /// Patterns of labels, see [`matches`].
    labels: &'static [&'static str],
    part: Part,
    /// Whether RAPL meters the same: then the channel is left out.
    second: bool,
}

const fn row(drivers: &'static [&'static str], labels: &'static [&'static str], part: Part) -> Known {
    Known { drivers, labels, part, second: false }
}

const fn second(drivers: &'static [&'static str], labels: &'static [&'static str], part: Part) -> Known {
    Known { drivers, labels, part, second: true }
}

const ACPI: &[&str] = &["power_meter"];
const JETSON: &[&str] = &["ina3221", "ina3221x"];
const AMD: &[&str] = &["amd_energy", "zenergy"];
const AMPERE: &[&str] = &["apm_xgene", "altra_hwmon", "smpro_hwmon"];
const SMPRO: &[&str] = &["smpro_hwmon"];

/// The first row that matches counts.
#[rustfmt::skip]
const ROWS: &[Known] = &[
    // NVIDIA Grace and later. Labels: "NVIDIA Grace Performance Tuning Guide", "Power Telemetry"; those of
    // newer firmware as its users show them (github.com/NVIDIA/srt-slurm, pull requests 422, 453 and 481).
    // The module contains all, the socket its CPU, SoC and memory.
    row(ACPI, &["module power socket #"], Part::Module),
    row(ACPI, &["grace power socket #", "total ?input power ?in ?uw socket #"], Part::Package),
    row(ACPI, &["cpu ?rail ?input power ?in ?uw socket #"], Part::Cores),
    row(ACPI, &["sysio power socket #", "soc ?rail ?input power ?in ?uw socket #"], Part::Uncore),
    row(ACPI, &["dram ?input power ?in ?uw socket #"], Part::Memory),
    // Whatever else names a socket is not the machine: a rail's output, energy in a file of power.
    row(ACPI, &["* socket *"], Part::Unknown),
    // On other machines ACPI's meter is that of the power supply (ACPI 6.5, 10.4 "Power Meters").
    row(ACPI, &["*"], Part::Host),
    // NVIDIA Jetson: "Jetson Linux Developer Guide", "Power Monitor", for each module.
    row(JETSON, &["VDD_IN", "POM_5V_IN", "VIN"], Part::Host),
    row(JETSON, &["VDD_CPU", "VDD_SYS_CPU", "POM_5V_CPU", "CPU", "VDD_CPU_CV", "VDD_CPU_GPU_CV",
                  "VDD_CPU_SOC_MSS"], Part::Rail(Rail::Package, None)),
    row(JETSON, &["VDD_GPU", "VDD_SYS_GPU", "POM_5V_GPU", "GPU", "VDD_GPU_SOC"],
        Part::Rail(Rail::Gpu, None)),
    row(JETSON, &["VDD_SYS_DDR", "VDDRQ"], Part::Rail(Rail::Dram, None)),
    row(JETSON, &["VDD_SOC", "VDD_SYS_SOC", "SOC", "CV", "SYS5V", "VIN_SYS_5V0"],
        Part::Rail(Rail::Other, None)),
    row(JETSON, &["VDDQ_VDD2_1V8AO"], Part::Rail(Rail::Dram, Some("vin-sys-5v0"))),
    // Servers and desktops: the kernel's Documentation/hwmon/{ibmpowernv,corsair-psu}.rst, macsmc-hwmon.c.
    row(&["ibmpowernv"], &["System"], Part::Host),
    row(&["ibmpowernv"], &["Chip #"], Part::Package),
    row(&["corsairpsu"], &["power total"], Part::Host),
    row(&["macsmc_hwmon"], &["Total System Power"], Part::Host),
    // Ampere: the kernel's xgene-hwmon.c; altra_hwmon.c of Ampere's kernels, with energies of single
    // cores; smpro-hwmon.c, whose labels begin with the channel.
    row(AMPERE, &["CPU power"], Part::Package),
    row(AMPERE, &["IO power"], Part::Rail(Rail::Other, None)),
    row(AMPERE, &["Core Energy *"], Part::LeftOut),
    row(SMPRO, &["?power1 CORE VRD"], Part::Rail(Rail::Package, None)),
    row(SMPRO, &["?power2 SoC", "?power5 RCA VRD"], Part::Rail(Rail::Other, None)),
    row(SMPRO, &["?power3 DIMM VRD1", "?power4 DIMM VRD2"], Part::Rail(Rail::Dram, None)),
    // AMD: amd_energy.c (Linux 5.8 to 5.12, now github.com/amd/amd_energy) and its successor zenergy
    // (github.com/BoukeHaarsma23/zenergy), which read RAPL's registers. The numbers of cores are their own.
    second(AMD, &["Esocket#"], Part::Package),
    row(AMD, &["*"], Part::LeftOut),
    // One chip a socket: drivers/platform/x86/amd/hsmp/hwmon.c. Its first version had labels.
    second(&["amd_hsmp_hwmon"], &["", "pinput"], Part::Package),
    row(&["amd_hsmp_hwmon"], &["*"], Part::LeftOut),
    // The package of AMD's families 15h and 16h: Documentation/hwmon/fam15h_power.rst.
    second(&["fam15h_power"], &["*"], Part::Package),
];

/// What the channel `label` of `driver` is, the number in its label, and whether RAPL meters the same.
pub(crate) fn look_up(driver: &str, label: &str) -> (Part, Option<u32>, bool) {
    for Known { drivers, labels, part, second } in ROWS {
        if drivers.contains(&driver)
            && let Some(number) = labels.iter().find_map(|pattern| matches(pattern, label))
        {
            return (part.clone(), number, *second);
        }
    }
    (Part::Unknown, None, false)
}

/// Whether `label` has the form `pattern`, and the number in it. A pattern is a sequence of words, upper and
/// lower case alike: `?word` may be missing, `*` is any number of words, `#` at the end of a word is a
/// number.
fn matches(pattern: &str, label: &str) -> Option<Option<u32>> {
    let pattern: Vec<&str> = pattern.split_whitespace().collect();
    let label: Vec<&str> = label.split_whitespace().collect();
    match_words(&pattern, &label)
}

fn match_words(pattern: &[&str], label: &[&str]) -> Option<Option<u32>> {
    let Some((&first, rest)) = pattern.split_first() else { return label.is_empty().then_some(None) };
    if first == "*" {
        return (0..=label.len()).find_map(|skipped| match_words(rest, &label[skipped..]));
    }
    let (word, is_optional) = first.strip_prefix('?').map_or((first, false), |word| (word, true));
    let here = label.split_first().and_then(|(&found, after)| {
        let number = match word.strip_suffix('#') {
            Some(stem) => {
                let digits = found.get(stem.len()..).filter(|_| found.is_char_boundary(stem.len()))?;
                Some(digits.parse().ok().filter(|_| found[..stem.len()].eq_ignore_ascii_case(stem))?)
            }
            None => found.eq_ignore_ascii_case(word).then_some(None)?,
        };
        let further = match_words(rest, after)?;
        Some(number.or(further))
    });
    here.or_else(|| is_optional.then(|| match_words(rest, label)).flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(driver: &str, label: &str) -> (Part, Option<u32>) {
        let (part, number, _) = look_up(driver, label);
        (part, number)
    }

    #[test]
    fn a_pattern_has_optional_words_numbers_and_rests() {
        assert_eq!(matches("a ?b c#", "A C12"), Some(Some(12)));
        assert_eq!(matches("a ?b c#", "a  B c0"), Some(Some(0)));
        assert_eq!(matches("a ?b c#", "a c"), None);
        assert_eq!(matches("a #", "a 4294967296"), None);
        assert_eq!(matches("a #", "a é"), None);
        assert_eq!(matches("éa#", "\u{e9}"), None);
        assert_eq!(matches("* socket *", "Module Socket A"), Some(None));
        assert_eq!(matches("*", ""), Some(None));
        assert_eq!((matches("", ""), matches("", "a")), (Some(None), None));
    }

    #[test]
    fn every_name_that_grace_firmware_gives_a_part_is_known() {
        for (label, expected) in [
            ("Grace Power Socket 0", (Part::Package, Some(0))),
            ("Total Power Socket 1", (Part::Package, Some(1))),
            ("Total Power in uW socket 1", (Part::Package, Some(1))),
            ("Total Input Power Socket 0", (Part::Package, Some(0))),
            ("TOTAL INPUT POWER IN UW SOCKET 10", (Part::Package, Some(10))),
            ("CPU Power Socket 1", (Part::Cores, Some(1))),
            ("CPU Rail Power in uW socket 0", (Part::Cores, Some(0))),
            ("CPU Rail Input Power Socket 0", (Part::Cores, Some(0))),
            ("cpu rail input power in uw socket 0", (Part::Cores, Some(0))),
            ("SysIO Power Socket 0", (Part::Uncore, Some(0))),
            ("SOC Rail Power in uW socket 1", (Part::Uncore, Some(1))),
            ("SoC Rail Input Power Socket 0", (Part::Uncore, Some(0))),
            ("DRAM Power socket 0", (Part::Memory, Some(0))),
            ("DRAM Input Power in uW socket 1", (Part::Memory, Some(1))),
            ("Module Power Socket 0", (Part::Module, Some(0))),
            // Not inputs, not power, and not the machine.
            ("CPU Rail Output Power in uW socket 0", (Part::Unknown, None)),
            ("Total CPU Energy In uJ socket 0", (Part::Unknown, None)),
            ("Grace Power Socket x", (Part::Unknown, None)),
            ("Module Socket A", (Part::Unknown, None)),
            ("", (Part::Host, None)),
            ("Server PSU", (Part::Host, None)),
        ] {
            assert_eq!(part("power_meter", label), expected, "{label}");
        }
    }

    #[test]
    fn meters_of_packages_are_known_by_driver_and_label() {
        for (driver, label, expected) in [
            ("altra_hwmon", "CPU power", (Part::Package, None)),
            ("apm_xgene", "cpu power", (Part::Package, None)),
            ("smpro_hwmon", "CPU power", (Part::Package, None)),
            ("altra_hwmon", "Core Energy 000", (Part::LeftOut, None)),
            ("smpro_hwmon", "power1 CORE VRD", (Part::Rail(Rail::Package, None), None)),
            ("amd_hsmp_hwmon", "", (Part::Package, None)),
            ("amd_hsmp_hwmon", "pinput", (Part::Package, None)),
            ("amd_hsmp_hwmon", "pcap", (Part::LeftOut, None)),
            ("zenergy", "Esocket1", (Part::Package, Some(1))),
            ("zenergy", "Ecore001", (Part::LeftOut, None)),
            ("amd_energy", "Esocket0", (Part::Package, Some(0))),
            ("ibmpowernv", "Chip 8", (Part::Package, Some(8))),
            ("ibmpowernv", "Chip 0 Vdd", (Part::Unknown, None)),
            ("n6000bmc", "Board Power", (Part::Unknown, None)),
        ] {
            assert_eq!(part(driver, label), expected, "{driver} {label}");
        }
        assert!(look_up("zenergy", "Esocket1").2 && look_up("amd_hsmp_hwmon", "").2);
        assert!(!look_up("altra_hwmon", "CPU power").2);
    }
}
