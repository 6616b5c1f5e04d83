//! The base frequency of a CPU, for which its design power is given.

use std::path::Path;

use wattrace_meter::sysfs::read_text;

use crate::cpuinfo::CpuInfo;

/// The base frequency in MHz; 0: unknown.
pub(crate) fn nominal_mhz(cpu: &CpuInfo) -> f64 {
    find(cpu, Path::new("/sys/devices/system/cpu/cpu0"))
}

/// From the model's name, from sysfs, or in a virtual machine from `cpu MHz`, which is the base frequency
/// there (on bare metal it is the current one).
fn find(cpu: &CpuInfo, sysfs: &Path) -> f64 {
    let number = |file: &str| read_text(&sysfs.join(file)).ok()?.trim().parse::<f64>().ok();
    let virtual_mhz = || Some(cpu.mhz).filter(|_| cpu.is_virtual);
    in_name(&cpu.model)
        .or_else(|| number("cpufreq/base_frequency").map(|khz| khz / 1e3))
        .or_else(|| number("acpi_cppc/nominal_freq"))
        .or_else(virtual_mhz)
        .filter(|mhz| (1.0..1e5).contains(mhz))
        .unwrap_or(0.0)
}

/// `… CPU @ 2.80GHz`.
fn in_name(model: &str) -> Option<f64> {
    let (_, frequency) = model.rsplit_once('@')?;
    let ghz: f64 = frequency.trim().strip_suffix("GHz")?.trim().parse().ok()?;
    Some(ghz * 1e3)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_base_frequency_comes_from_the_name_sysfs_or_a_virtual_machines_cpuinfo() {
        let sysfs = tempfile::tempdir().unwrap();
        let named = |model: &str| CpuInfo { model: model.to_owned(), ..CpuInfo::default() };
        assert_eq!(find(&named("Intel(R) Xeon(R) Gold 6342 CPU @ 2.80GHz"), sysfs.path()), 2800.0);
        assert_eq!(find(&named("AMD EPYC 7763"), sysfs.path()), 0.0);
        assert_eq!(find(&named("Something @ nanGHz"), sysfs.path()), 0.0);
        let guest = CpuInfo { mhz: 2596.1, is_virtual: true, ..named("AMD EPYC") };
        assert_eq!(find(&guest, sysfs.path()), 2596.1);
        assert_eq!(find(&CpuInfo { is_virtual: false, ..guest.clone() }, sysfs.path()), 0.0);
        fs::create_dir(sysfs.path().join("acpi_cppc")).unwrap();
        fs::write(sysfs.path().join("acpi_cppc/nominal_freq"), "2450\n").unwrap();
        assert_eq!(find(&guest, sysfs.path()), 2450.0);
        fs::create_dir(sysfs.path().join("cpufreq")).unwrap();
        fs::write(sysfs.path().join("cpufreq/base_frequency"), "2100000\n").unwrap();
        assert_eq!(find(&guest, sysfs.path()), 2100.0);
    }
}
