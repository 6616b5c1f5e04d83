//! Finds the perf event that a name stands for, in the forms that `perf list` shows and `perf stat -e` takes:
//! `page-faults`, `LLC-load-misses`, `r01c2`, `mem-loads`, `cpu/event=0x3c,umask=0x01/`, `cpu/mem-loads/`,
//! `block:block_rq_issue`; and libpfm's names of the kernel's own events: `perf::PAGE-FAULTS`,
//! `PERF_COUNT_SW_PAGE_FAULTS`.
//!
//! The names of single processor models (`perf list` has them in its own tables, libpfm in others) are not
//! among them: write their codes, as `r` and the digits of umask and event.

use std::fs;
use std::path::{Path, PathBuf};

use super::counters::PerfEvent;

const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
const TRACEPOINT: u32 = 2;
const CACHE: u32 = 3;
const RAW: u32 = 4;

/// The kernel's own events (`enum perf_hw_id`, `enum perf_sw_ids`), with perf's short forms.
const NAMED: [(&str, u32, u64); 29] = [
    ("cycles", HARDWARE, 0),
    ("cpu-cycles", HARDWARE, 0),
    ("instructions", HARDWARE, 1),
    ("cache-references", HARDWARE, 2),
    ("cache-misses", HARDWARE, 3),
    ("branches", HARDWARE, 4),
    ("branch-instructions", HARDWARE, 4),
    ("branch-misses", HARDWARE, 5),
    ("bus-cycles", HARDWARE, 6),
    ("stalled-cycles-frontend", HARDWARE, 7),
    ("stalled-cycles-backend", HARDWARE, 8),
    ("ref-cycles", HARDWARE, 9),
    ("ref-cpu-cycles", HARDWARE, 9),
    ("cpu-clock", SOFTWARE, 0),
    ("task-clock", SOFTWARE, 1),
    ("page-faults", SOFTWARE, 2),
    ("faults", SOFTWARE, 2),
    ("context-switches", SOFTWARE, 3),
    ("cs", SOFTWARE, 3),
    ("cpu-migrations", SOFTWARE, 4),
    ("migrations", SOFTWARE, 4),
    ("minor-faults", SOFTWARE, 5),
    ("page-faults-min", SOFTWARE, 5),
    ("major-faults", SOFTWARE, 6),
    ("page-faults-maj", SOFTWARE, 6),
    ("alignment-faults", SOFTWARE, 7),
    ("emulation-faults", SOFTWARE, 8),
    ("bpf-output", SOFTWARE, 10),
    ("cgroup-switches", SOFTWARE, 11),
];

/// Caches, and what is done to them with which result (`enum perf_hw_cache_…_id`).
const CACHES: [(&str, u64); 7] =
    [("l1-dcache", 0), ("l1-icache", 1), ("llc", 2), ("dtlb", 3), ("itlb", 4), ("branch", 5), ("node", 6)];
const CACHE_USES: [(&str, u64); 6] = [
    ("loads", 0),
    ("load-misses", 1 << 16),
    ("stores", 1 << 8),
    ("store-misses", 1 << 8 | 1 << 16),
    ("prefetches", 2 << 8),
    ("prefetch-misses", 2 << 8 | 1 << 16),
];

/// The event that `name` stands for, on the machine whose `/sys` is at `sysfs`.
///
/// # Errors
/// Nothing on this machine has that name; the message has the remedy.
pub(crate) fn find(name: &str, sysfs: &Path) -> Result<PerfEvent, String> {
    let devices = sysfs.join("bus/event_source/devices");
    let plain = in_perfs_form(name);
    let named = NAMED.iter().find(|(known, ..)| *known == plain);
    let found = named
        .map(|&(_, kind, config)| PerfEvent { kind, config: [config, 0, 0] })
        .or_else(|| cache(&plain))
        .or_else(|| raw(name))
        .or_else(|| tracepoint(name, sysfs));
    if let Some(event) = found {
        return Ok(event);
    }
    if let Some((device, terms)) = name.strip_suffix('/').and_then(|name| name.split_once('/')) {
        return Device::open(&devices, device)?.event(terms);
    }
    let of_device = |device: &PathBuf| device.join("events").join(name).is_file();
    match list(&devices).into_iter().find(of_device) {
        Some(path) if is_plain(name) => {
            let device = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Device::open(&devices, &device)?.event(name)
        }
        _ => Err(format!(
            "no perf event is named {name:?} here: `perf list` shows those of this kernel; an event of the \
             processor's model is written as its code, r and the digits of umask and event, or as \
             cpu/event=0x3c,umask=0x01/; a tracepoint (sched:sched_process_fork) needs tracefs at \
             /sys/kernel/tracing"
        )),
    }
}

/// The name of one of the kernel's own events as perf has it, in lower case.
fn in_perfs_form(name: &str) -> String {
    let name = name.strip_prefix("perf::").unwrap_or(name);
    let kinds = ["PERF_COUNT_HW_", "PERF_COUNT_SW_"];
    let name = kinds.iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    name.to_ascii_lowercase().replace('_', "-")
}

fn cache(name: &str) -> Option<PerfEvent> {
    CACHES.iter().find_map(|(cache, id)| {
        let rest = name.strip_prefix(cache)?.strip_prefix('-')?;
        let (_, how) = CACHE_USES.iter().find(|(how, _)| *how == rest)?;
        Some(PerfEvent { kind: CACHE, config: [id | how, 0, 0] })
    })
}

fn raw(name: &str) -> Option<PerfEvent> {
    let digits = name.strip_prefix('r').filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    Some(PerfEvent { kind: RAW, config: [u64::from_str_radix(digits, 16).ok()?, 0, 0] })
}

/// `sched:sched_process_fork`, where tracefs is mounted.
fn tracepoint(name: &str, sysfs: &Path) -> Option<PerfEvent> {
    let (system, event) =
        name.split_once(':').filter(|(system, event)| is_plain(system) && is_plain(event))?;
    let of_mount = |mount: &str| read(&sysfs.join(mount).join("events").join(system).join(event).join("id"));
    let id = ["kernel/tracing", "kernel/debug/tracing"].iter().find_map(|mount| of_mount(mount))?;
    Some(PerfEvent { kind: TRACEPOINT, config: [id.trim().parse().ok()?, 0, 0] })
}

/// Whether it is the name of a file, and nothing that leads elsewhere.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != ".."
}

fn list(devices: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(devices).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// A device that counts events.
struct Device {
    path: PathBuf,
    kind: u32,
}

impl Device {
    fn open(devices: &Path, name: &str) -> Result<Self, String> {
        let path = devices.join(name);
        let kind = Some(name).filter(|name| is_plain(name)).and_then(|_| read(&path.join("type")));
        match kind.and_then(|kind| kind.trim().parse().ok()) {
            Some(kind) => Ok(Self { path, kind }),
            None => Err(format!("there is no device {name:?} in {}", devices.display())),
        }
    }

    /// The event of `terms`: `mem-loads`, `event=0x3c,umask=0x01`.
    fn event(&self, terms: &str) -> Result<PerfEvent, String> {
        let mut event = PerfEvent { kind: self.kind, config: [0; 3] };
        self.add(terms, true, &mut event)?;
        Ok(event)
    }

    fn add(&self, terms: &str, named: bool, event: &mut PerfEvent) -> Result<(), String> {
        for term in terms.trim().split(',') {
            let (term, value) =
                term.split_once('=').map_or((term, None), |(term, value)| (term, Some(value)));
            let value = value.map(|text| number(text).ok_or_else(|| format!("{text:?} is no number")));
            let value = value.transpose()?;
            let alias = read(&self.path.join("events").join(term)).filter(|_| named && is_plain(term));
            match (alias, value) {
                (Some(alias), None) => self.add(&alias, false, event)?,
                (_, value) => self.set(term, value.unwrap_or(1), event)?,
            }
        }
        Ok(())
    }

    /// Puts `value` into the bits of the configuration that `term` names.
    fn set(&self, term: &str, value: u64, event: &mut PerfEvent) -> Result<(), String> {
        let whole = ["config", "config1", "config2"].iter().position(|name| *name == term);
        if let Some(word) = whole {
            event.config[word] = value;
            return Ok(());
        }
        let format = read(&self.path.join("format").join(term)).filter(|_| is_plain(term));
        let wrong = || format!("{} has no term {term:?}: see {}", self.path.display(), "format/");
        let format = format.ok_or_else(wrong)?;
        let (word, ranges) = format.trim().split_once(':').ok_or_else(wrong)?;
        let words = ["config", "config1", "config2"];
        let word = words.iter().position(|name| *name == word).ok_or_else(wrong)?;
        let mut left = value;
        for range in ranges.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let first: u32 = first.parse().map_err(|_| wrong())?;
            let last: u32 = last.parse().map_err(|_| wrong())?;
            let bits = last.checked_sub(first).filter(|_| last < 64).ok_or_else(wrong)? + 1;
            let mask = u64::MAX >> (64 - bits);
            event.config[word] |= (left & mask) << first;
            left = if bits == 64 { 0 } else { left >> bits };
        }
        if left != 0 {
            return Err(format!("{value:#x} is too large for {term}"));
        }
        Ok(())
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A processor with the formats and one event of Intel's.
    fn sysfs() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join("bus/event_source/devices").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("cpu/type", "4\n");
        write("cpu/format/event", "config:0-7\n");
        write("cpu/format/umask", "config:8-15\n");
        write("cpu/format/inv", "config:23\n");
        write("cpu/format/ldlat", "config1:0-15\n");
        write("cpu/format/split", "config:0-3,32-35\n");
        write("cpu/events/mem-loads", "event=0xcd,umask=0x1,ldlat=3\n");
        write("msr/type", "10\n");
        write("msr/format/event", "config:0-63\n");
        write("msr/events/tsc", "event=0x00\n");
        write("../../../kernel/tracing/events/block/block_rq_issue/id", "1234\n");
        root
    }

    #[test]
    fn names_have_the_codes_that_perf_gives_them() {
        let root = sysfs();
        for (name, kind, config) in [
            ("page-faults", 1, [2, 0, 0]),
            ("cs", 1, [3, 0, 0]),
            ("branch-misses", 0, [5, 0, 0]),
            ("LLC-load-misses", 3, [0x10002, 0, 0]),
            ("L1-dcache-stores", 3, [0x100, 0, 0]),
            ("dTLB-store-misses", 3, [0x10103, 0, 0]),
            ("r01c2", 4, [0x1c2, 0, 0]),
            ("PERF_COUNT_SW_PAGE_FAULTS", 1, [2, 0, 0]),
            ("PERF_COUNT_HW_REF_CPU_CYCLES", 0, [9, 0, 0]),
            ("perf::INSTRUCTIONS", 0, [1, 0, 0]),
            ("perf::L1-DCACHE-LOAD-MISSES", 3, [0x10000, 0, 0]),
            ("block:block_rq_issue", 2, [1234, 0, 0]),
            ("mem-loads", 4, [0x1cd, 3, 0]),
            ("cpu/mem-loads/", 4, [0x1cd, 3, 0]),
            ("cpu/mem-loads,ldlat=0x20/", 4, [0x1cd, 0x23, 0]),
            ("cpu/event=0x3c,umask=2,inv/", 4, [0x0080_023c, 0, 0]),
            ("cpu/split=0xab/", 4, [0xa_0000_000b, 0, 0]),
            ("cpu/config=0x1c2,config1=7/", 4, [0x1c2, 7, 0]),
            ("tsc", 10, [0, 0, 0]),
        ] {
            assert_eq!(find(name, root.path()), Ok(PerfEvent { kind, config }), "{name}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused_with_a_remedy() {
        let root = sysfs();
        for (name, expected) in [
            ("nonsense", "`perf list`"),
            ("", "`perf list`"),
            ("r", "`perf list`"),
            ("../type", "`perf list`"),
            ("block:nothing", "needs tracefs"),
            ("..:block", "`perf list`"),
            ("gpu/x/", "no device \"gpu\""),
            ("../cpu/event=1/", "no device \"..\""),
            ("cpu/event=0x100/", "too large for event"),
            ("cpu/event=x/", "\"x\" is no number"),
            ("cpu/unknown=1/", "no term \"unknown\""),
        ] {
            let error = find(name, root.path()).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
