//! The processor's own registers, through the device files of the kernel's module `msr`: an alternative to
//! powercap and perf, and a third result to compare with theirs. Opens and reads the counters. [`registers`]
//! decides which there are, [`device`] reads one.

pub(crate) mod device;
pub(crate) mod registers;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wattrace_meter::Period;
use wattrace_meter::sysfs::Fault;

use crate::cpu_model::CpuModel;
use crate::domain::{PackageDie, Part, subject};
use crate::meter::{Continuity, CounterGroup, Meter, OpenInterface, Unavailable};
use crate::meter_cpus::{CounterScope, MeterCpus};
use crate::profile;
use device::Device;
use registers::Registers;

const NO_X86: &str = "only Intel, AMD and Hygon processors have these registers; use \"auto\"";
const NO_DEVICE: &str = "load the driver with `sudo modprobe msr`; virtual machines seldom have a meter";
const NO_PERMISSION: &str =
    "run as root, or `sudo setcap cap_sys_rawio,cap_dac_read_search+ep \"$(command -v wattrace)\"`";
/// Counters have 32 bits; the bits above are reserved.
const COUNTER_MASK: u64 = 0xffff_ffff;
const PERIOD: Period = Period::Known(COUNTER_MASK + 1);
/// The time between attempts to open a CPU's registers again.
const RETRY: Duration = Duration::from_millis(200);

/// The directory of the interface.
pub(crate) fn directory(dev_root: &Path) -> PathBuf {
    dev_root.join("cpu")
}

/// Opens every counter that the processor below `sysfs_root` has, through the devices below `dev_root`; those
/// of single cores if `cores`.
pub(crate) fn open(sysfs_root: &Path, dev_root: &Path, cores: bool) -> Result<OpenInterface, Unavailable> {
    let unavailable = |reason: String, remedy: &str| Unavailable::new(directory(dev_root), reason, remedy);
    let Some(cpu) = CpuModel::of(sysfs_root) else {
        let path = sysfs_root.join("devices/system/cpu/modalias");
        return Err(unavailable(format!("{} names no such processor", path.display()), NO_X86));
    };
    let (registers, topology) = (Registers::of(cpu), MeterCpus::below(sysfs_root));
    let online = topology.online();
    let mut opened = OpenInterface::default();
    for (nth, on) in topology.one_per_package(&online, registers.per_die).into_iter().enumerate() {
        // psys covers all packages: it is read once.
        let wanted = registers.package.iter().filter(|(part, _)| nth == 0 || *part != Part::Psys);
        let wanted: Vec<_> = wanted.cloned().collect();
        let scope = topology.scope_of_package(on.number, registers.per_die);
        let target =
            Target { cpu: on.number, package_die: on.package_die, topology: topology.clone(), scope };
        let group = open_group(cpu, dev_root, target, &wanted);
        let group = group.map_err(|e| {
            let path = device::path(dev_root, on.number);
            let reason = format!("{}: {e}", path.display());
            Unavailable::refused(directory(dev_root), reason, &e, (NO_PERMISSION, NO_DEVICE))
        })?;
        opened.groups.extend(group);
    }
    let Some(core) = registers.core.filter(|_| cores && !opened.groups.is_empty()) else {
        return some(opened, unavailable("no energy register counts here".to_owned(), NO_DEVICE));
    };
    for &on in &online {
        let siblings = topology.core(on);
        let lowest = siblings.iter().min().copied().unwrap_or(on);
        if on == lowest {
            let package_die = PackageDie { package: topology.package(on), die: None };
            let target = Target {
                cpu: on,
                package_die,
                topology: topology.clone(),
                scope: CounterScope::Core(siblings),
            };
            match open_group(cpu, dev_root, target, &[(Part::OneCore(lowest), core)]) {
                Ok(group) => opened.groups.extend(group),
                Err(e) => opened.warnings.push(format!("{}: {e}", device::path(dev_root, on).display())),
            }
        }
    }
    Ok(opened)
}

fn some(opened: OpenInterface, otherwise: Unavailable) -> Result<OpenInterface, Unavailable> {
    if opened.groups.is_empty() { Err(otherwise) } else { Ok(opened) }
}

/// The CPU whose registers are read, and what they cover.
struct Target {
    cpu: u32,
    package_die: PackageDie,
    topology: MeterCpus,
    scope: CounterScope,
}

/// The group of those of `wanted` that count; `None` if none does. As in the kernel, a register that reads
/// zero is treated as missing: a real one passes zero once in hours.
fn open_group(
    model: CpuModel,
    dev_root: &Path,
    target: Target,
    wanted: &[(Part, u32)],
) -> io::Result<Option<CounterGroup>> {
    let Target { cpu, package_die, topology, scope } = target;
    let device = Device::open(dev_root, cpu)?;
    // Without a unit there is no meter, for example in a virtual machine.
    let Ok(unit) = device.read(Registers::of(model).unit) else { return Ok(None) };
    let (mut counters, mut addresses) = (Vec::new(), Vec::new());
    for (part, address) in wanted {
        let counts = device.read(*address).is_ok_and(|value| value & COUNTER_MASK != 0);
        let scale = registers::scale(model, part, unit).filter(|_| counts);
        if let Some(scale) = scale {
            let subject =
                subject(part.domain_name(Some(package_die)), part, Some(package_die), device.origin());
            counters.push((subject, profile::counter(scale, PERIOD)));
            addresses.push(*address);
        }
    }
    if counters.is_empty() {
        return Ok(None);
    }
    let dev_root = dev_root.to_owned();
    let meter = MsrMeter { device: Some(device), cpu, addresses, dev_root, topology, scope, retry_at: None };
    Ok(Some(CounterGroup { meter: Box::new(meter), counters }))
}

/// The counters of one package, die or core, read one after the other on one of its CPUs.
#[derive(Debug)]
struct MsrMeter {
    /// `None` after its CPU went offline.
    device: Option<Device>,
    cpu: u32,
    addresses: Vec<u32>,
    dev_root: PathBuf,
    topology: MeterCpus,
    /// The registers read the same on each of these CPUs.
    scope: CounterScope,
    retry_at: Option<Instant>,
}

impl MsrMeter {
    fn reopen(&mut self) -> Result<Device, Fault> {
        let path = device::path(&self.dev_root, self.cpu);
        let gone = |why: &str| Fault::gone(format!("{}: {why}", path.display()));
        // The clock is read only after a failure.
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| now < at) {
            return Err(gone("still gone"));
        }
        self.retry_at = Some(now + RETRY);
        let online = self.topology.online();
        for cpu in online.into_iter().filter(|&cpu| self.topology.is_within(cpu, &self.scope)) {
            let Ok(device) = Device::open(&self.dev_root, cpu) else { continue };
            if self.addresses.iter().all(|&address| device.read(address).is_ok()) {
                tracing::info!(was_on = self.cpu, cpu, "registers are read on another CPU");
                (self.cpu, self.retry_at) = (cpu, None);
                return Ok(device);
            }
        }
        Err(gone("gone, and there is no other CPU to read it on"))
    }
}

impl Meter for MsrMeter {
    fn read(&mut self, readings: &mut [u64]) -> Result<Continuity, Fault> {
        let device = match self.device.take() {
            Some(device) => device,
            None => self.reopen()?,
        };
        for (reading, &address) in readings.iter_mut().zip(&self.addresses) {
            let value = device.read(address).map_err(|e| {
                let path = device::path(&self.dev_root, self.cpu);
                Fault::gone(format!("{}: register {address:#x}: {e}", path.display()))
            })?;
            *reading = value & COUNTER_MASK;
        }
        self.device = Some(device);
        // A register counts whichever CPU reads it.
        Ok(Continuity::Continued)
    }
}

#[cfg(test)]
mod tests;
