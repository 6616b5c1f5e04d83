//! The processor's own registers, through the device files of the kernel's module `msr`: a way around
//! powercap and perf, and a third opinion beside them. [`registers`] says which there are, [`device`] reads
//! one; here they are opened and read.

pub(crate) mod device;
pub(crate) mod registers;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::counter::Counter;
use crate::domain::{Part, Place, Subject};
use crate::meter::{Fault, Group, Opened, Reader, Reading, Unavailable};
use crate::topology::{Reach, Topology};
use crate::x86;
use device::Device;
use registers::Registers;

const NO_X86: &str = "only Intel, AMD and Hygon processors have these registers; use \"auto\"";
const NO_DEVICE: &str = "load the driver with `sudo modprobe msr`; virtual machines seldom have a meter";
const NO_PERMISSION: &str =
    "run as root, or `sudo setcap cap_sys_rawio,cap_dac_read_search+ep \"$(command -v wattrace)\"`";
/// A counter has 32 bits; what stands above them is something else.
const COUNT: u64 = 0xffff_ffff;
/// Time between attempts to open a CPU's registers anew.
const RETRY: Duration = Duration::from_millis(200);

/// Where it is looked for.
pub(crate) fn directory(dev_root: &Path) -> PathBuf {
    dev_root.join("cpu")
}

/// Opens every counter that the processor below `sysfs_root` has, through the devices below `dev_root`; those
/// of single cores if `cores`.
pub(crate) fn open(sysfs_root: &Path, dev_root: &Path, cores: bool) -> Result<Opened, Unavailable> {
    let unavailable = |reason: String, remedy: &str| Unavailable {
        looked_in: directory(dev_root),
        reason,
        remedy: remedy.to_owned(),
    };
    let Some(cpu) = x86::Cpu::of(sysfs_root) else {
        let told = sysfs_root.join("devices/system/cpu/modalias");
        return Err(unavailable(format!("{} tells of no such processor", told.display()), NO_X86));
    };
    let (registers, topology) = (Registers::of(cpu), Topology::below(sysfs_root));
    let online = topology.online();
    let mut opened = Opened::default();
    for (nth, on) in topology.one_per_place(&online, registers.per_die).into_iter().enumerate() {
        // psys spans all packages: it is read once.
        let wanted = registers.package.iter().filter(|(part, _)| nth == 0 || *part != Part::Psys);
        let wanted: Vec<_> = wanted.cloned().collect();
        let peers = (topology.clone(), topology.reach_of_place(on.number, registers.per_die));
        let group = open_group(cpu, dev_root, on.number, on.place, &wanted, peers);
        let group = group.map_err(|e| {
            let path = device::path(dev_root, on.number);
            let remedy = Unavailable::remedy_of(&e, NO_PERMISSION, NO_DEVICE);
            unavailable(format!("{}: {e}", path.display()), remedy)
        })?;
        opened.groups.extend(group);
    }
    let Some(core) = registers.core.filter(|_| cores && !opened.groups.is_empty()) else {
        return some(opened, unavailable("no register of energy counts here".to_owned(), NO_DEVICE));
    };
    for &on in &online {
        let siblings = topology.core(on);
        let lowest = siblings.iter().min().copied().unwrap_or(on);
        if on == lowest {
            let place = Place { package: topology.package(on), die: None };
            let peers = (topology.clone(), Reach::Core(siblings));
            match open_group(cpu, dev_root, on, place, &[(Part::OneCore(lowest), core)], peers) {
                Ok(group) => opened.groups.extend(group),
                Err(e) => opened.caveats.push(format!("{}: {e}", device::path(dev_root, on).display())),
            }
        }
    }
    Ok(opened)
}

fn some(opened: Opened, otherwise: Unavailable) -> Result<Opened, Unavailable> {
    if opened.groups.is_empty() { Err(otherwise) } else { Ok(opened) }
}

/// The group of those of `wanted` that count on `on`; none if none does. As in the kernel, a register that
/// reads zero isn't there: a real one passes zero once in hours.
fn open_group(
    cpu: x86::Cpu,
    dev_root: &Path,
    on: u32,
    place: Place,
    wanted: &[(Part, u32)],
    peers: (Topology, Reach),
) -> io::Result<Option<Group>> {
    let device = Device::open(dev_root, on)?;
    // Without it there is no meter: a virtual machine's processor, for example.
    let Ok(unit) = device.read(Registers::of(cpu).unit) else { return Ok(None) };
    let (mut counters, mut addresses) = (Vec::new(), Vec::new());
    for (part, address) in wanted {
        let counts = device.read(*address).is_ok_and(|value| value & COUNT != 0);
        let scale = registers::scale(cpu, part, unit).filter(|_| counts);
        if let Some(scale) = scale {
            let name = part.domain_name(Some(place));
            let subject = Subject::new(name, part, Some(place), device.origin());
            counters.push((subject, Counter::of_register(scale)));
            addresses.push(*address);
        }
    }
    if counters.is_empty() {
        return Ok(None);
    }
    let dev_root = dev_root.to_owned();
    let reader = RegisterGroup { device: Some(device), on, addresses, dev_root, peers, retry_at: None };
    Ok(Some(Group { reader: Box::new(reader), counters }))
}

/// Counters of one piece of hardware, read one after the other on one of its CPUs.
#[derive(Debug)]
struct RegisterGroup {
    /// `None`: its CPU went offline.
    device: Option<Device>,
    on: u32,
    addresses: Vec<u32>,
    dev_root: PathBuf,
    /// On whichever of these CPUs it is read, it reads the same.
    peers: (Topology, Reach),
    retry_at: Option<Instant>,
}

impl RegisterGroup {
    fn reopen(&mut self) -> Result<(), Fault> {
        let path = device::path(&self.dev_root, self.on);
        let gone = |why: &str| Fault::gone(format!("{}: {why}", path.display()));
        // Only where something is amiss is the time asked for.
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| now < at) {
            return Err(gone("still gone"));
        }
        self.retry_at = Some(now + RETRY);
        let (topology, reach) = &self.peers;
        for cpu in topology.online().into_iter().filter(|&cpu| topology.is_within(cpu, reach)) {
            let Ok(device) = Device::open(&self.dev_root, cpu) else { continue };
            if self.addresses.iter().all(|&address| device.read(address).is_ok()) {
                tracing::info!(was_on = self.on, cpu, "registers are read on another CPU");
                (self.on, self.device, self.retry_at) = (cpu, Some(device), None);
                return Ok(());
            }
        }
        Err(gone("gone, and there is no other CPU to read it on"))
    }
}

impl Reader for RegisterGroup {
    fn read(&mut self, raw: &mut [u64]) -> Result<Reading, Fault> {
        if self.device.is_none() {
            self.reopen()?;
        }
        let device = self.device.as_ref().ok_or_else(|| Fault::gone("no CPU to read on".to_owned()))?;
        for (raw, &address) in raw.iter_mut().zip(&self.addresses) {
            match device.read(address) {
                Ok(value) => *raw = value & COUNT,
                Err(e) => {
                    let path = device::path(&self.dev_root, self.on);
                    self.device = None;
                    return Err(Fault::gone(format!("{}: register {address:#x}: {e}", path.display())));
                }
            }
        }
        // A register counts on whoever reads it.
        Ok(Reading::Continued)
    }
}

#[cfg(test)]
mod tests;
