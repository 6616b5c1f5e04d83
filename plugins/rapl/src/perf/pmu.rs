//! What `bus/event_source/devices/power` offers: its number, the CPUs to count on, its events and their scales. Read
//! once at the start; the parsing is pure.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::counter::scale::Scale;
use crate::domain::{Part, Place};

/// The `power` PMU.
#[derive(Debug)]
pub(super) struct Pmu {
    /// perf's number for it, `perf_event_attr::type`.
    pub(super) kind: u32,
    pub(super) cpus: Vec<Cpu>,
    pub(super) events: Vec<Event>,
}

/// A CPU to count on: one per package, or per die where dies are metered one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cpu {
    pub(super) number: u32,
    pub(super) place: Place,
}

/// A kind of counter.
#[derive(Debug)]
pub(super) struct Event {
    /// `energy-pkg`, …
    pub(super) name: &'static str,
    pub(super) part: Part,
    pub(super) config: u64,
    pub(super) scale: Scale,
}

/// perf's names. Its "gpu" is the graphics within a package, RAPL's plane 1, which powercap calls `uncore`.
const EVENTS: [(&str, Part); 5] = [
    ("energy-pkg", Part::Package),
    ("energy-cores", Part::Core),
    ("energy-gpu", Part::Uncore),
    ("energy-ram", Part::Dram),
    ("energy-psys", Part::Psys),
];

impl Pmu {
    /// Reads the PMU in `directory`, and the CPUs' packages under `sysfs_root`. The error says what is missing.
    pub(super) fn find(sysfs_root: &Path, directory: &Path) -> Result<Self, String> {
        let read = |name: &str| fs::read_to_string(directory.join(name));
        let kind = read("type").map_err(|e| format!("no perf PMU \"power\": type: {e}"))?;
        let kind = kind.trim().parse().map_err(|e| format!("type: \"{}\": {e}", kind.trim()))?;
        let mask = read("cpumask").unwrap_or_default();
        let cpus =
            parse_cpus(&mask).ok_or_else(|| format!("cpumask: \"{}\" is no list of CPUs", mask.trim()))?;
        let events: Vec<Event> =
            EVENTS.into_iter().filter_map(|(name, part)| event(directory, name, part)).collect();
        if events.is_empty() {
            return Err("events: no energy-pkg nor any other that is known".to_owned());
        }
        let topology = |cpu: u32, what: &str| {
            let path = sysfs_root.join(format!("devices/system/cpu/cpu{cpu}/topology/{what}"));
            fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        let seen = cpus.into_iter().map(|n| (n, topology(n, "physical_package_id"), topology(n, "die_id")));
        Ok(Self { kind, cpus: arrange(seen.collect()), events })
    }
}

/// The event called `name`; `None`, with a word in the log if it is there, where it can't be used.
fn event(directory: &Path, name: &'static str, part: Part) -> Option<Event> {
    let read = |suffix: &str| fs::read_to_string(directory.join(format!("events/{name}{suffix}")));
    let terms = read("").ok()?;
    let (scale, unit) = (read(".scale").unwrap_or_default(), read(".unit").unwrap_or_default());
    match (parse_config(&terms), Scale::parse(&scale), unit.trim()) {
        (Some(config), Some(scale), "Joules" | "") => Some(Event { name, part, config, scale }),
        _ => {
            let (terms, scale, unit) = (terms.trim(), scale.trim(), unit.trim());
            tracing::warn!(name, terms, scale, unit, "perf event left out: not in a form that is known");
            None
        }
    }
}

/// `event=0x02`: on this PMU the event is the whole of perf's `config`.
fn parse_config(terms: &str) -> Option<u64> {
    let number = terms.trim().strip_prefix("event=")?;
    match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    }
}

/// `0,28` or `0-1,4`; an empty mask means CPU 0.
fn parse_cpus(mask: &str) -> Option<Vec<u32>> {
    if mask.trim().is_empty() {
        return Some(vec![0]);
    }
    let mut cpus = Vec::new();
    for range in mask.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

/// Gives each (CPU, package, die) its place: the die is told only where a package has several. A second CPU of the same
/// place would count the same energy again.
fn arrange(seen: Vec<(u32, u32, u32)>) -> Vec<Cpu> {
    let dies: HashSet<(u32, u32)> = seen.iter().map(|&(_, package, die)| (package, die)).collect();
    let mut taken = HashSet::new();
    let mut cpus = Vec::new();
    for (number, package, die) in seen {
        let several = dies.iter().filter(|d| d.0 == package).count() > 1;
        let place = Place { package, die: several.then_some(die) };
        if taken.insert(place) {
            cpus.push(Cpu { number, place });
        } else {
            tracing::debug!(number, %place, "CPU left out: another one counts for its package");
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_and_masks_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_config("event=0x02\n"), Some(2));
        assert_eq!(parse_config("event=3"), Some(3));
        assert_eq!(parse_config("event=0x02,umask=0x1"), None);
        assert_eq!(parse_cpus("0,28\n"), Some(vec![0, 28]));
        assert_eq!(parse_cpus("0-1,4"), Some(vec![0, 1, 4]));
        assert_eq!(parse_cpus(""), Some(vec![0]));
        assert_eq!(parse_cpus("0;1"), None);
    }

    #[test]
    fn dies_are_told_apart_only_where_a_package_has_several() {
        let cpus = arrange(vec![(0, 0, 0), (8, 0, 1), (16, 1, 0), (24, 1, 0)]);
        let places: Vec<_> = cpus.iter().map(|cpu| (cpu.number, cpu.place.to_string())).collect();
        let expected = [(0, "0-die-0".to_owned()), (8, "0-die-1".to_owned()), (16, "1".to_owned())];
        assert_eq!(places, expected);
    }
}
