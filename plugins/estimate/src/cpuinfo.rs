//! Which CPU this is, and how much of it is here, as `/proc/cpuinfo` tells. Pure; `power` reads the file.

use std::collections::HashSet;

/// What `/proc/cpuinfo` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CpuInfo {
    /// The model's name; empty where the kernel gives none, as on ARM.
    pub(crate) model: String,
    /// Logical CPUs of all packages.
    pub(crate) cpus: u32,
    /// Packages (sockets); at least 1.
    pub(crate) packages: u32,
    /// Whether a hypervisor says that it is there.
    pub(crate) is_virtual: bool,
}

impl CpuInfo {
    /// Reads the text of `/proc/cpuinfo`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut info = CpuInfo::default();
        let mut packages = HashSet::new();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            match (key.trim(), value.trim()) {
                ("processor", _) => info.cpus += 1,
                ("physical id", package) => _ = packages.insert(package),
                ("model name", model) if info.model.is_empty() => model.clone_into(&mut info.model),
                ("flags", flags) => info.is_virtual |= flags.split(' ').any(|flag| flag == "hypervisor"),
                _ => {}
            }
        }
        info.packages = (packages.len() as u32).max(1);
        info
    }

    /// Logical CPUs of one package, on average.
    pub(crate) fn cpus_per_package(&self) -> f64 {
        f64::from(self.cpus.max(1)) / f64::from(self.packages.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_cpus_are_counted() {
        let one = |n: u32, package: u32| {
            format!(
                "processor\t: {n}\nmodel name\t: Intel(R) Xeon(R) Gold 6342 CPU @ 2.80GHz\n\
                 physical id\t: {package}\nflags\t\t: fpu vme hypervisor_not lm\n\n"
            )
        };
        let text: String = (0..8).map(|n| one(n, n % 2)).collect();
        let info = CpuInfo::parse(&text);
        assert_eq!((info.cpus, info.packages, info.is_virtual), (8, 2, false));
        assert_eq!(info.model, "Intel(R) Xeon(R) Gold 6342 CPU @ 2.80GHz");
        assert_eq!(info.cpus_per_package(), 4.0);
        assert!(CpuInfo::parse(&text.replace("hypervisor_not", "hypervisor")).is_virtual);
    }

    #[test]
    fn arm_names_neither_model_nor_package() {
        let info =
            CpuInfo::parse("processor\t: 0\nBogoMIPS\t: 243.75\n\nprocessor\t: 1\nBogoMIPS\t: 243.75\n");
        assert_eq!(info, CpuInfo { model: String::new(), cpus: 2, packages: 1, is_virtual: false });
        assert_eq!(CpuInfo::parse("").cpus_per_package(), 1.0);
    }
}
