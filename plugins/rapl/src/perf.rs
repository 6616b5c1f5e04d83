//! The kernel's interface of perf counters: the `power` PMU, 64 bits wide. [`pmu`] reads what it offers; here its counters
//! are opened, one group per package, and read, a group at a time.

mod pmu;

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};

use perf_event_open_sys as sys;
use sys::bindings::{PERF_FLAG_FD_CLOEXEC, PERF_FORMAT_GROUP, perf_event_attr};

use crate::counter::Counter;
use crate::domain::{Part, Subject};
use crate::meter::{Fault, Group, Reader, Unavailable};
use crate::origin;
use pmu::{Cpu, Event, Pmu};

const NO_PMU: &str = "load the driver with `sudo modprobe rapl`; virtual machines seldom have a meter";
const NO_PERMISSION: &str = "run as root, or `sudo setcap cap_perfmon+ep \"$(command -v wattrace)\"`, or `sudo sysctl kernel.perf_event_paranoid=0`";

/// Where it is looked for.
pub(crate) fn directory(sysfs_root: &Path) -> PathBuf {
    sysfs_root.join("bus/event_source/devices/power")
}

/// Opens every event of the `power` PMU under `sysfs_root`, on every CPU it names.
pub(crate) fn open(sysfs_root: &Path) -> Result<Vec<Group>, Unavailable> {
    let directory = directory(sysfs_root);
    let unavailable = |reason: String, remedy: &str| Unavailable {
        looked_in: directory.clone(),
        reason,
        remedy: remedy.to_owned(),
    };
    let pmu = Pmu::find(sysfs_root, &directory).map_err(|reason| unavailable(reason, NO_PMU))?;
    let origin = origin::of_directory(&directory.join("events"));
    let (mut groups, mut refused) = (Vec::new(), None);
    for (nth, cpu) in pmu.cpus.iter().enumerate() {
        let mut counters = Vec::new();
        let mut files: Vec<File> = Vec::new();
        // psys spans all packages: it is read once.
        for event in pmu.events.iter().filter(|event| nth == 0 || event.part != Part::Psys) {
            match open_event(pmu.kind, event, cpu, files.first()) {
                Ok(file) => {
                    files.push(file);
                    let name = event.part.domain_name(Some(cpu.place));
                    let subject = Subject::new(name, &event.part, Some(cpu.place), origin);
                    counters.push((subject, Counter::of_counts(event.scale)));
                }
                Err(e) => {
                    let what = format!("{} on CPU {}: {e}", event.name, cpu.number);
                    tracing::debug!("perf counter left out, cannot be opened: {what}");
                    refused.get_or_insert((what, e.kind()));
                }
            }
        }
        if !files.is_empty() {
            let reader = Box::new(CounterGroup::new(files, cpu.number));
            groups.push(Group { reader, counters });
        }
    }
    match refused {
        Some((what, kind)) if groups.is_empty() => {
            let remedy = if kind == io::ErrorKind::PermissionDenied { NO_PERMISSION } else { NO_PMU };
            Err(unavailable(format!("the kernel refuses {what}"), remedy))
        }
        _ => Ok(groups),
    }
}

/// Opens a counter that counts on one CPU, whoever runs there; in the group of `leader` if there is one.
fn open_event(kind: u32, event: &Event, cpu: &Cpu, leader: Option<&File>) -> io::Result<File> {
    let mut attr = perf_event_attr {
        type_: kind,
        size: size_of::<perf_event_attr>() as u32,
        config: event.config,
        read_format: u64::from(PERF_FORMAT_GROUP),
        ..Default::default()
    };
    let cpu = i32::try_from(cpu.number).map_err(io::Error::other)?;
    let group = leader.map_or(-1, File::as_raw_fd);
    // SAFETY: `attr` is a valid description of the size it says; the other arguments are plain numbers.
    let fd = unsafe { sys::perf_event_open(&mut attr, -1, cpu, group, PERF_FLAG_FD_CLOEXEC.into()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// The counters of a package, in one perf group.
#[derive(Debug)]
struct CounterGroup {
    /// The first leads: reading it reads all. The others are kept open.
    files: Vec<File>,
    /// What the kernel writes: the number of counters, then their values.
    buffer: Vec<u8>,
    cpu: u32,
}

const WORD: usize = size_of::<u64>();

impl CounterGroup {
    fn new(files: Vec<File>, cpu: u32) -> Self {
        let buffer = vec![0; (1 + files.len()) * WORD];
        Self { files, buffer, cpu }
    }
}

impl Reader for CounterGroup {
    fn read(&mut self, raw: &mut [u64]) -> Result<(), Fault> {
        let Some(mut leader) = self.files.first() else {
            return Err(Fault::gone(format!("perf group on CPU {}: is empty", self.cpu)));
        };
        match leader.read(&mut self.buffer) {
            Ok(length) if length == self.buffer.len() => {}
            // The kernel ends a counter whose CPU or PMU has gone.
            Ok(0) => return Err(Fault::gone(format!("perf group on CPU {}: the kernel ended it", self.cpu))),
            Ok(n) => return Err(Fault::bad(format!("perf group on CPU {}: read {n} bytes", self.cpu))),
            Err(e) => return Err(Fault::bad(format!("perf group on CPU {}: {e}", self.cpu))),
        }
        let (words, _) = self.buffer.as_chunks::<WORD>();
        for (raw, word) in raw.iter_mut().zip(words.iter().skip(1)) {
            *raw = u64::from_ne_bytes(*word);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::nobody::as_nobody;
    use crate::simulate::perf_clock;

    /// `None` where this user may not open perf counters.
    fn opened(root: &Path) -> Option<Vec<Group>> {
        match open(root) {
            Err(e) if e.remedy == NO_PERMISSION => {
                eprintln!("not run: {e}");
                None
            }
            opened => Some(opened.unwrap()),
        }
    }

    #[test]
    fn a_package_s_counters_are_read_at_once() {
        let root = tempfile::tempdir().unwrap();
        perf_clock(root.path(), 10).unwrap();
        let events = directory(root.path()).join("events");
        for name in ["energy-ram", "energy-psys"] {
            fs::write(events.join(name), "event=0x00\n").unwrap();
            fs::write(events.join(format!("{name}.scale")), "1e-9\n").unwrap();
        }
        // Without a scale nothing can be said.
        fs::write(events.join("energy-cores"), "event=0x00\n").unwrap();
        let topology = root.path().join("devices/system/cpu/cpu0/topology");
        fs::create_dir_all(&topology).unwrap();
        fs::write(topology.join("physical_package_id"), "3\n").unwrap();
        let Some(mut groups) = opened(root.path()) else { return };
        assert_eq!(groups.len(), 1);
        let names: Vec<_> = groups[0].counters.iter().map(|(s, _)| s.domain.name.as_str()).collect();
        assert_eq!(names, ["package-3", "dram-3", "psys"]);
        let (mut first, mut second) = ([0; 3], [0; 3]);
        groups[0].reader.read(&mut first).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(2));
        groups[0].reader.read(&mut second).unwrap();
        for (first, second) in first.into_iter().zip(second) {
            assert!(second > first + 1_000_000, "{first} {second}");
        }
    }

    #[test]
    fn an_event_that_the_kernel_does_not_know_leaves_the_others() {
        let root = tempfile::tempdir().unwrap();
        perf_clock(root.path(), 10).unwrap();
        let events = directory(root.path()).join("events");
        fs::write(events.join("energy-ram"), "event=0xffff\n").unwrap();
        fs::write(events.join("energy-ram.scale"), "1e-9\n").unwrap();
        let Some(groups) = opened(root.path()) else { return };
        assert_eq!(groups[0].counters.len(), 1);
    }

    #[test]
    fn who_may_not_open_a_counter_is_told_how() {
        let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
        if paranoid.trim().parse::<i32>().unwrap_or(0) < 1 {
            eprintln!("not run: everyone may open perf counters here");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        perf_clock(root.path(), 10).unwrap();
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        as_nobody(|| {
            let error = open(root.path()).err().unwrap().to_string();
            assert!(error.contains("energy-pkg on CPU 0: Permission denied"), "{error}");
            assert!(error.contains("cap_perfmon") && error.contains("perf_event_paranoid=0"), "{error}");
        });
    }
}
