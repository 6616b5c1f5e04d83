//! The counters of a node: which files there are and what they meter, and the content of one. Source: HPE,
//! "User Access to Compute Node Power Data" (github.com/Cray-HPE/docs-csm), and the files of such nodes.

use std::path::{Path, PathBuf};

use wattrace_api::{Domain, Follows, Origin, Resource, ResourceKind, metric};
use wattrace_meter::Subject;
use wattrace_meter::sysfs::{Fault, names, parse_number, read_word};

/// The domain that contains the accelerators: the whole machine, so that no total counts them beside the
/// plugins that know who uses a GPU.
const WHOLE_MACHINE: &str = "host";

/// What a counter meters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The whole node, accelerators included.
    Node,
    /// The CPUs: of all packages, or of one.
    Cpus(Option<u32>),
    /// The memory.
    Memory,
    /// An accelerator, or all of them.
    Accelerator(Option<u32>),
}

/// A counter that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) file: String,
    pub(crate) part: Part,
    /// Whether the node has one package, which the counter of all is that of.
    one_package: bool,
}

/// The directory of the counters.
pub(crate) fn directory(sysfs_root: &Path) -> PathBuf {
    sysfs_root.join("cray/pm_counters")
}

/// The counters in `directory`, on a machine with so many packages. A sum over parts that have counters of
/// their own is left out.
pub(crate) fn find(directory: &Path, packages: usize) -> Vec<Found> {
    let files = names(directory).unwrap_or_default();
    let mut parts: Vec<_> = files.iter().filter_map(|file| Some((part(file)?, file.clone()))).collect();
    let has = |wanted: fn(&Part) -> bool| parts.iter().any(|(part, _)| wanted(part));
    let each_cpu = has(|part| matches!(part, Part::Cpus(Some(_))));
    let each_accelerator = has(|part| matches!(part, Part::Accelerator(Some(_))));
    parts.retain(|(part, _)| match part {
        Part::Cpus(None) => !each_cpu,
        Part::Accelerator(None) => !each_accelerator,
        _ => true,
    });
    parts.sort();
    let one_package = packages <= 1;
    parts.into_iter().map(|(part, file)| Found { file, part, one_package }).collect()
}

fn part(file: &str) -> Option<Part> {
    let numbered = |stem: &str| {
        let number = file.strip_prefix(stem)?.strip_suffix("_energy")?;
        if number.is_empty() { Some(None) } else { number.parse().ok().map(Some) }
    };
    match file {
        "energy" => Some(Part::Node),
        "memory_energy" => Some(Part::Memory),
        _ => numbered("cpu").map(Part::Cpus).or_else(|| numbered("accel").map(Part::Accelerator)),
    }
}

impl Found {
    /// What its values are about.
    pub(crate) fn subject(&self, origin: Origin) -> Subject {
        let of_node = |name: &str, kind: ResourceKind, follows: Follows| {
            let id = if self.one_package { "0" } else { "node" };
            (format!("{name}-{id}"), Resource { kind, id: id.into() }, follows, None)
        };
        let all = if self.one_package { Follows::Package(0) } else { Follows::Cpus };
        let (name, resource, follows, within) = match self.part {
            Part::Node => ("cray-node".to_owned(), Resource::HOST, Follows::Cpus, None),
            Part::Cpus(Some(n)) => (format!("package-{n}"), Resource::package(n), Follows::Package(n), None),
            Part::Cpus(None) => of_node("package", ResourceKind::Package, all),
            Part::Memory => of_node("dram", ResourceKind::Dram, all),
            Part::Accelerator(number) => {
                let id = number.map(|n| n.to_string()).unwrap_or_default();
                let resource = Resource { kind: ResourceKind::Other("accelerator".into()), id: id.into() };
                let name = number.map_or("accel".to_owned(), |n| format!("accel-{n}"));
                (name, resource.clone(), Follows::Device(resource), Some(WHOLE_MACHINE.to_owned()))
            }
        };
        let metric = if self.part == Part::Node { metric::HW_HOST_ENERGY } else { metric::HW_ENERGY };
        let domain = Domain { name, origin, follows, within, idle_microwatts: None };
        Subject { metric, resource, domain }
    }
}

/// `2178501771 J 1733321098123456 us`: whole joules, and when they were read, if the file says so.
pub(crate) fn parse(text: &str) -> Option<(i128, Option<u64>)> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (joules, at) = match words[..] {
        [joules, "J"] => (joules, None),
        [joules, "J", at, "us"] => (joules, Some(at.parse().ok()?)),
        _ => return None,
    };
    parse_number(joules.as_bytes()).filter(|joules| *joules >= 0).map(|joules| (joules, at))
}

/// The reading of a counter: microjoules, and when they were read.
pub(crate) fn read(path: &Path) -> Result<(i128, Option<u64>), Fault> {
    let Some(text) = read_word(path) else {
        let what = format!("{}: nothing can be read there", path.display());
        return Err(if path.exists() { Fault::bad(what) } else { Fault::gone(what) });
    };
    let reading = parse(&text).map(|(joules, at)| (joules * 1_000_000, at));
    reading.ok_or_else(|| Fault::bad(format!("{}: is not an energy in joules: \"{text}\"", path.display())))
}

/// What changes when the counters start again: the controller's counts of starts and of generations.
pub(crate) fn generation(directory: &Path) -> [Option<String>; 2] {
    ["startup", "generation"].map(|file| {
        let text = read_word(&directory.join(file))?;
        // When it was read follows.
        text.split_whitespace().next().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_joules_with_or_without_a_time() {
        assert_eq!(
            parse("2178501771 J 1733321098123456 us\n"),
            Some((2_178_501_771, Some(1_733_321_098_123_456)))
        );
        assert_eq!(parse("17 J"), Some((17, None)));
        for other in ["", "17", "17 W", "17 mJ 5 us", "-1 J", "x J", "1 J 5", "1 J x us", "1 J 5 us 6"] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn files_are_parts_of_the_node() {
        assert_eq!(part("energy"), Some(Part::Node));
        assert_eq!(
            (part("cpu_energy"), part("cpu1_energy")),
            (Some(Part::Cpus(None)), Some(Part::Cpus(Some(1))))
        );
        assert_eq!(part("accel3_energy"), Some(Part::Accelerator(Some(3))));
        assert_eq!(part("memory_energy"), Some(Part::Memory));
        for other in ["power", "cpu_power", "cpux_energy", "freshness", "raw_scan_hz", "accel0_power_cap"] {
            assert_eq!(part(other), None, "{other}");
        }
    }
}
