//! Reads a PMU's directory: its type, the CPUs to count on, its events and their scales. Read once when the
//! counters are opened; the parsing is pure.

use std::fs;
use std::path::Path;

use wattrace_meter::Scale;
use wattrace_meter::sysfs::read_text;
use wattrace_topology::parse_list;

use crate::domain::Part;

/// A PMU of energy counters.
#[derive(Debug)]
pub(super) struct Pmu {
    /// `perf_event_attr::type`.
    pub(super) pmu_type: u32,
    /// The CPUs it counts on, one for each package, die or core.
    pub(super) cpus: Vec<u32>,
    pub(super) events: Vec<Event>,
}

/// An event that the PMU counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// `energy-pkg`, …
    pub(super) name: String,
    pub(super) part: Part,
    pub(super) config: u64,
    pub(super) scale: Scale,
}

impl Pmu {
    /// Reads the PMU in `directory`. The error says what is missing.
    pub(super) fn find(directory: &Path, warnings: &mut Vec<String>) -> Result<Self, String> {
        let read = |name: &str| read_text(&directory.join(name));
        let name = directory.file_name().unwrap_or_default().display();
        let pmu_type = read("type").map_err(|e| format!("no perf PMU \"{name}\": type: {e}"))?;
        let pmu_type = pmu_type.trim().parse().map_err(|e| format!("type: \"{}\": {e}", pmu_type.trim()))?;
        let mask = read("cpumask").unwrap_or_default();
        let mut cpus =
            parse_list(&mask).ok_or_else(|| format!("cpumask: \"{}\" is not a list of CPUs", mask.trim()))?;
        if cpus.is_empty() {
            cpus.push(0);
        }
        let mut events: Vec<Event> = event_names(directory)
            .into_iter()
            .filter_map(|name| {
                let read = |suffix: &str| read_text(&directory.join(format!("events/{name}{suffix}")));
                let (terms, scale, unit) = (read("").ok()?, read(".scale"), read(".unit"));
                let event =
                    Event::parse(&name, &terms, &scale.unwrap_or_default(), &unit.unwrap_or_default());
                event.map_err(|warning| warnings.push(warning)).ok()
            })
            .collect();
        if events.is_empty() {
            return Err("events: there is no energy-pkg nor another energy event".to_owned());
        }
        // The package first: it always exists, and leads the group.
        events.sort_by_key(|event| (event.part != Part::Package, event.config));
        Ok(Self { pmu_type, cpus, events })
    }
}

/// The events' names. Files with a dot in their names describe an event further.
fn event_names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("events")).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|n| n.starts_with("energy-") && !n.contains('.')).collect();
    names.sort_unstable();
    names
}

impl Event {
    /// Parses the texts of an event's files. The error names an event of an unknown form.
    pub(super) fn parse(name: &str, terms: &str, scale: &str, unit: &str) -> Result<Self, String> {
        match (parse_config(terms), Scale::parse(scale), unit.trim()) {
            (Some(config), Some(scale), "Joules" | "") => {
                Ok(Self { name: name.to_owned(), part: Part::of_event(name), config, scale })
            }
            _ => Err(format!(
                "perf event {name} left out, its form is unknown: \"{}\", scale \"{}\", unit \"{}\"",
                terms.trim(),
                scale.trim(),
                unit.trim()
            )),
        }
    }
}

/// `event=0x02`: on these PMUs the event is all of `perf_event_attr::config`.
fn parse_config(terms: &str) -> Option<u64> {
    let number = terms.trim().strip_prefix("event=")?;
    match number.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_parsed_as_the_kernel_writes_them() {
        assert_eq!(parse_config("event=0x02\n"), Some(2));
        assert_eq!(parse_config("event=3"), Some(3));
        assert_eq!(parse_config("event=0x02,umask=0x1"), None);
    }

    #[test]
    fn the_package_leads_and_unknown_events_keep_their_names() {
        let root = tempfile::tempdir().unwrap();
        let events = root.path().join("events");
        fs::create_dir_all(&events).unwrap();
        fs::write(root.path().join("type"), "9\n").unwrap();
        for (name, terms) in [("energy-cores", 1), ("energy-npu", 9), ("energy-pkg", 2), ("energy-odd", 7)] {
            fs::write(events.join(name), format!("event=0x0{terms}\n")).unwrap();
            fs::write(events.join(format!("{name}.scale")), "1e-9\n").unwrap();
        }
        fs::write(events.join("energy-odd.unit"), "Calories\n").unwrap();
        let mut warnings = Vec::new();
        let pmu = Pmu::find(root.path(), &mut warnings).unwrap();
        let parts: Vec<_> = pmu.events.into_iter().map(|event| event.part).collect();
        assert_eq!(parts, [Part::Package, Part::Core, Part::Other("npu".into())]);
        assert_eq!((pmu.cpus, warnings.len()), (vec![0], 1));
        assert!(warnings[0].contains("energy-odd") && warnings[0].contains("Calories"), "{warnings:?}");
    }
}
