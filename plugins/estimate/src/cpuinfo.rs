//! Parses `/proc/cpuinfo`: the CPU's model and topology. `power` reads the file.

use std::collections::HashSet;

/// The content of `/proc/cpuinfo`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuInfo {
    /// The model's name. ARM kernels report a number instead, which is replaced by the core's name if that is
    /// known.
    pub model: String,
    /// Logical CPUs of all packages.
    pub cpus: u32,
    /// Packages (sockets); at least 1.
    pub packages: u32,
    /// Whether a hypervisor is reported.
    pub is_virtual: bool,
    /// Whether CPUs share cores (SMT).
    pub(crate) shares_cores: bool,
    /// `cpu MHz` of the first CPU; 0: not reported.
    pub(crate) mhz: f64,
    /// Whether the cores implement the ARM architecture.
    pub(crate) is_arm: bool,
}

impl CpuInfo {
    /// Parses the text of `/proc/cpuinfo`.
    pub fn parse(text: &str) -> Self {
        let mut info = CpuInfo::default();
        let mut packages = HashSet::new();
        let (mut implementer, mut part) = ("", "");
        let (mut siblings, mut cores) = (0, 0);
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            match (key.trim(), value.trim()) {
                ("processor", _) => info.cpus = info.cpus.saturating_add(1),
                ("physical id", package) => _ = packages.insert(package),
                ("model name", model) if info.model.is_empty() => model.clone_into(&mut info.model),
                ("flags", flags) => info.is_virtual |= flags.split(' ').any(|flag| flag == "hypervisor"),
                ("cpu MHz", mhz) if info.mhz == 0.0 => {
                    info.mhz = mhz.parse().ok().filter(|mhz| (1.0..1e6).contains(mhz)).unwrap_or(0.0);
                }
                ("siblings", number) => siblings = number.parse().unwrap_or(0),
                ("cpu cores", number) => cores = number.parse().unwrap_or(u32::MAX),
                ("CPU implementer", number) => implementer = number,
                ("CPU part", number) if part.is_empty() => part = number,
                _ => {}
            }
        }
        info.packages = (packages.len() as u32).max(1);
        // Both are per package.
        info.shares_cores = siblings > cores;
        info.is_arm = !implementer.is_empty();
        if info.model.is_empty()
            && let Some((.., name)) = CORES.iter().find(|(i, p, _)| (*i, *p) == (implementer, part))
        {
            (*name).clone_into(&mut info.model);
        }
        info
    }

    /// Logical CPUs of one package, on average.
    pub fn cpus_per_package(&self) -> f64 {
        f64::from(self.cpus.max(1)) / f64::from(self.packages.max(1))
    }
}

/// `CPU implementer`, `CPU part`, and the core's name, as in the Main ID Register of ARM's reference manuals.
const CORES: [(&str, &str, &str); 9] = [
    ("0x41", "0xd03", "Cortex-A53"),
    ("0x41", "0xd08", "Cortex-A72"),
    ("0x41", "0xd0b", "Cortex-A76"),
    ("0x41", "0xd0c", "Neoverse-N1"),
    ("0x41", "0xd40", "Neoverse-V1"),
    ("0x41", "0xd49", "Neoverse-N2"),
    ("0x41", "0xd4f", "Neoverse-V2"),
    ("0xc0", "0xac3", "Ampere-1"),
    ("0xc0", "0xac4", "Ampere-1a"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_cpus_are_counted() {
        let one = |n: u32, package: u32| {
            format!(
                "processor\t: {n}\nmodel name\t: Intel(R) Xeon(R) Gold 6342 CPU @ 2.80GHz\n\
                 cpu MHz\t\t: {}00.125\nphysical id\t: {package}\nflags\t\t: fpu vme hypervisor_not lm\n\n",
                n + 8
            )
        };
        let text: String = (0..8).map(|n| one(n, n % 2)).collect();
        let info = CpuInfo::parse(&text);
        assert_eq!((info.cpus, info.packages, info.is_virtual), (8, 2, false));
        assert_eq!((&*info.model, info.mhz), ("Intel(R) Xeon(R) Gold 6342 CPU @ 2.80GHz", 800.125));
        assert_eq!((info.cpus_per_package(), info.shares_cores), (4.0, false));
        assert!(!CpuInfo::parse("siblings: 4\ncpu cores: 4\n").shares_cores);
        assert!(CpuInfo::parse("siblings: 4\ncpu cores: 2\n").shares_cores);
        assert!(CpuInfo::parse(&text.replace("hypervisor_not", "hypervisor")).is_virtual);
    }

    #[test]
    fn arm_cores_are_named_by_their_part_number() {
        let text = "processor\t: 0\nBogoMIPS\t: 243.75\n\nprocessor\t: 1\nBogoMIPS\t: 243.75\n";
        let info = CpuInfo::parse(text);
        assert_eq!((&*info.model, info.cpus, info.packages, info.is_arm), ("", 2, 1, false));
        let info = CpuInfo::parse("processor: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n");
        assert_eq!((&*info.model, info.is_arm), ("Neoverse-N1", true));
        let info = CpuInfo::parse("processor: 0\nCPU implementer\t: 0x61\nCPU part\t: 0x022\n");
        assert_eq!((&*info.model, info.is_arm), ("", true), "an unknown core");
        assert_eq!(CpuInfo::parse("").cpus_per_package(), 1.0);
    }
}
