//! Parses `/proc/cpuinfo`: the CPU's model and topology. `power` reads the file.

use std::collections::HashSet;

use crate::cores::CoreKind;

/// The content of `/proc/cpuinfo`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuInfo {
    /// The model's name. ARM kernels report numbers of cores instead, which are replaced by the cores' names
    /// if those are known: `Cortex-A55 and Cortex-A76`.
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
    /// The kinds of ARM cores, each with its CPUs; empty elsewhere.
    pub(crate) kinds: Vec<CoreKind>,
}

impl CpuInfo {
    /// Parses the text of `/proc/cpuinfo`.
    pub fn parse(text: &str) -> Self {
        let mut info = CpuInfo::default();
        let mut packages = HashSet::new();
        let mut implementer = "";
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
                ("CPU part", number) => info.add_core(implementer, number),
                _ => {}
            }
        }
        info.packages = (packages.len() as u32).max(1);
        // Both are per package.
        info.shares_cores = siblings > cores;
        info.is_arm = !implementer.is_empty();
        // Old kernels describe the core once, after all CPUs.
        if let [only] = &mut info.kinds[..] {
            only.cpus = info.cpus.max(1);
        }
        // `ARMv7 Processor rev 4 (v7l)` names an architecture.
        if info.is_arm && (info.model.is_empty() || info.model.contains("Processor rev ")) {
            let mut names: Vec<_> = info.kinds.iter().map(|kind| kind.name).collect();
            names.retain(|name| !name.is_empty());
            names.dedup();
            info.model = names.join(" and ");
        }
        info
    }

    /// Counts a CPU with this core.
    fn add_core(&mut self, implementer: &str, part: &str) {
        let known = self.kinds.iter().position(|kind| kind.ids.0 == implementer && kind.ids.1 == part);
        match known {
            Some(at) => self.kinds[at].cpus = self.kinds[at].cpus.saturating_add(1),
            // No chip has more kinds; what lists more is not a list of CPUs.
            None if self.kinds.len() < 8 => self.kinds.push(CoreKind::new(implementer, part)),
            None => {}
        }
    }

    /// Logical CPUs of one package, on average.
    pub fn cpus_per_package(&self) -> f64 {
        f64::from(self.cpus.max(1)) / f64::from(self.packages.max(1))
    }
}

#[cfg(test)]
pub(crate) mod tests {
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

    /// `/proc/cpuinfo` of CPUs with these parts, all with the same line `model name`, if it is not empty.
    pub(crate) fn arm(model: &str, parts: &[&str]) -> String {
        let one = |(n, part): (usize, &&str)| {
            let model = if model.is_empty() { String::new() } else { format!("model name\t: {model}\n") };
            format!("processor\t: {n}\n{model}CPU implementer\t: 0x41\nCPU part\t: {part}\n\n")
        };
        parts.iter().enumerate().map(one).collect()
    }

    #[test]
    fn kinds_of_arm_cores_are_counted_apart_and_a_name_that_names_no_model_is_replaced() {
        let counted = |text: &str| {
            let info = CpuInfo::parse(text);
            let kinds: Vec<_> = info.kinds.iter().map(|kind| (kind.name, kind.cpus)).collect();
            (info.model, info.cpus, kinds)
        };
        let a53 = arm("ARMv7 Processor rev 4 (v7l)", &["0xd03"; 4]);
        assert_eq!(counted(&a53), ("Cortex-A53".to_owned(), 4, vec![("Cortex-A53", 4)]));
        let parts = ["0xd05", "0xd05", "0xd05", "0xd05", "0xd0b", "0xd0b", "0xd0b", "0xd0b"];
        let expected =
            ("Cortex-A55 and Cortex-A76".to_owned(), 8, vec![("Cortex-A55", 4), ("Cortex-A76", 4)]);
        assert_eq!(counted(&arm("", &parts)), expected);
        // A heading before the CPUs, and a core that is described once after all of them.
        let old = "Processor\t: ARMv7 Processor rev 5 (v7l)\nprocessor\t: 0\nprocessor\t: 1\n\
                   CPU implementer\t: 0x41\nCPU part\t: 0xc07\n";
        assert_eq!(counted(old), ("Cortex-A7".to_owned(), 2, vec![("Cortex-A7", 2)]));
        let named = arm("Kunpeng-920", &["0xd01"]);
        assert_eq!(counted(&named).0, "Kunpeng-920");
    }
}
