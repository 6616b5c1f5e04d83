//! Simulates CPUs and their registers, and PMUs that are really the kernel's own clock.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The registers of a CPU in a file, in place of the device `cpu/N/msr`. Registers that were not set read as
/// zero, or cannot be read.
#[derive(Debug)]
pub struct Registers {
    file: File,
}

impl Registers {
    /// Creates the registers of `cpu` below `dev_root` (`plugins.rapl.dev_root`).
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(dev_root: &Path, cpu: u32) -> io::Result<Self> {
        let directory = dev_root.join(format!("cpu/{cpu}"));
        fs::create_dir_all(&directory)?;
        Ok(Self { file: File::create(directory.join("msr"))? })
    }

    /// Sets a register.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn set(&self, register: u32, value: u64) -> io::Result<()> {
        self.file.write_all_at(&value.to_le_bytes(), register.into())
    }
}

/// Creates a processor below `sysfs_root`: its `modalias` (`cpu:type:x86,ven0000fam0006mod009E:feature:`),
/// and CPUs that are all online, each with its number, its package and the CPUs of its core.
///
/// # Errors
/// If a file cannot be created.
pub fn cpus(sysfs_root: &Path, modalias: &str, cpus: &[(u32, u32, &str)]) -> io::Result<()> {
    let directory = sysfs_root.join("devices/system/cpu");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("modalias"), format!("{modalias}\n"))?;
    let numbers: Vec<_> = cpus.iter().map(|(number, ..)| number.to_string()).collect();
    fs::write(directory.join("online"), format!("{}\n", numbers.join(",")))?;
    for (number, package, core) in cpus {
        let topology = directory.join(format!("cpu{number}/topology"));
        fs::create_dir_all(&topology)?;
        fs::write(topology.join("physical_package_id"), format!("{package}\n"))?;
        fs::write(topology.join("core_cpus_list"), format!("{core}\n"))?;
    }
    Ok(())
}

/// Creates a `power` PMU below `sysfs_root` that is really the kernel's `cpu-clock`: a real perf counter of
/// nanoseconds, whose scale declares each to be `watts` nanojoules. It meters package 0 on CPU 0.
///
/// # Errors
/// If a file cannot be created.
pub fn perf_clock(sysfs_root: &Path, watts: u32) -> io::Result<()> {
    pmu(sysfs_root, "power", "0", "energy-pkg", watts)
}

/// The same for the PMU of single cores, `power_core`, which counts on the CPUs of `mask`.
///
/// # Errors
/// If a file cannot be created.
pub fn perf_core_clock(sysfs_root: &Path, mask: &str, watts: u32) -> io::Result<()> {
    pmu(sysfs_root, "power_core", mask, "energy-core", watts)
}

fn pmu(sysfs_root: &Path, name: &str, mask: &str, event: &str, watts: u32) -> io::Result<()> {
    let pmu = sysfs_root.join("bus/event_source/devices").join(name);
    let events = pmu.join("events");
    fs::create_dir_all(&events)?;
    // PERF_TYPE_SOFTWARE, whose event 0 is PERF_COUNT_SW_CPU_CLOCK.
    fs::write(pmu.join("type"), "1\n")?;
    fs::write(pmu.join("cpumask"), format!("{mask}\n"))?;
    fs::write(events.join(event), "event=0x00\n")?;
    fs::write(events.join(format!("{event}.scale")), format!("{watts}e-9\n"))?;
    fs::write(events.join(format!("{event}.unit")), "Joules\n")
}
