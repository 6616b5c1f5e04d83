//! What RAPL's names mean: from a zone of powercap or an event of perf to the domain, resource and metric
//! that its joules are filed under. Pure; the directories are read by `powercap` and `perf`.

use std::fmt;

use wattrace_api::{Domain, Follows, Metric, Origin, Resource, ResourceKind, metric};

/// The package a counter belongs to, and the die of it where dies are metered one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) package: u32,
    pub(crate) die: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.die {
            Some(die) => write!(f, "{}-die-{die}", self.package),
            None => write!(f, "{}", self.package),
        }
    }
}

/// The part of the machine that a counter meters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Package,
    /// All cores of the package together.
    Core,
    /// One core, named by the lowest of its CPUs' numbers.
    OneCore(u32),
    Uncore,
    Dram,
    Psys,
    /// A part that was not yet known when this was written, under the kernel's name for it.
    Other(String),
}

impl Part {
    /// The part that a powercap zone's name tells, and its place if the name tells that too.
    pub(crate) fn of_zone(name: &str) -> (Part, Option<Place>) {
        if let Some(place) = name.strip_prefix("package-").and_then(place) {
            return (Part::Package, Some(place));
        }
        let part = match name {
            "core" => Part::Core,
            "uncore" => Part::Uncore,
            "dram" => Part::Dram,
            "psys" => Part::Psys,
            // The kernel's names for further ones: `psys-1` is read through package 1.
            other if other.strip_prefix("psys-").is_some_and(|n| n.parse::<u32>().is_ok()) => Part::Psys,
            other => Part::Other(other.to_owned()),
        };
        (part, None)
    }

    /// The part that one of perf's events meters: `energy-pkg`, `energy-ram`. perf's "gpu" is the graphics
    /// within a package, RAPL's plane 1, which powercap calls `uncore`.
    pub(crate) fn of_event(name: &str) -> Part {
        match name {
            "energy-pkg" => Part::Package,
            "energy-cores" => Part::Core,
            "energy-gpu" => Part::Uncore,
            "energy-ram" => Part::Dram,
            "energy-psys" => Part::Psys,
            other => Part::Other(other.strip_prefix("energy-").unwrap_or(other).to_owned()),
        }
    }

    /// Whether it draws power at any time, so that a counter of it that stands still is none.
    pub(crate) fn never_rests(&self) -> bool {
        matches!(self, Part::Package | Part::Psys)
    }

    fn kind(&self) -> ResourceKind {
        match self {
            Part::Package => ResourceKind::Package,
            Part::Core | Part::OneCore(_) => ResourceKind::Core,
            Part::Uncore => ResourceKind::Uncore,
            Part::Dram => ResourceKind::Dram,
            Part::Psys => ResourceKind::Psys,
            Part::Other(name) => ResourceKind::Other(name.clone().into()),
        }
    }

    /// The domain's name: `package-0`, `dram-1-die-0`, `core-cpu-4`, `psys`.
    pub(crate) fn domain_name(&self, place: Option<Place>) -> String {
        let kind = self.kind();
        match (self, place) {
            (Part::OneCore(cpu), _) => format!("core-cpu-{cpu}"),
            (Part::Psys, _) | (_, None) => kind.as_str().to_owned(),
            (_, Some(place)) => format!("{}-{place}", kind.as_str()),
        }
    }
}

/// `0` or `0-die-1`.
fn place(text: &str) -> Option<Place> {
    match text.split_once("-die-") {
        Some((package, die)) => Some(Place { package: package.parse().ok()?, die: Some(die.parse().ok()?) }),
        None => Some(Place { package: text.parse().ok()?, die: None }),
    }
}

/// What a counter's values are about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subject {
    pub(crate) metric: Metric,
    pub(crate) resource: Resource,
    pub(crate) domain: Domain,
    /// See [`Part::never_rests`].
    pub(crate) never_rests: bool,
}

impl Subject {
    /// The subject of the counter named `name` that meters `part` of the package at `place`. `within` says
    /// what already contains its energy: cores and uncore, and parts yet unknown, lie in their package;
    /// memory does not.
    pub(crate) fn new(name: String, part: &Part, place: Option<Place>, origin: Origin) -> Self {
        // psys spans all packages, whichever one's register it is read through.
        let place = place.filter(|_| *part != Part::Psys);
        let within = match part {
            Part::Package | Part::Dram | Part::Psys => None,
            _ => place.map(|p| Part::Package.domain_name(Some(p))),
        };
        let id = place.map(|p| p.package.to_string()).unwrap_or_default();
        let (resource, follows) = match part {
            Part::OneCore(cpu) => (Resource::core(*cpu), Follows::Core(*cpu)),
            part => {
                let follows = Follows::package_or_all(place.map(|p| p.package));
                (Resource { kind: part.kind(), id: id.into() }, follows)
            }
        };
        Self {
            metric: if *part == Part::Psys { metric::HW_HOST_ENERGY } else { metric::HW_ENERGY },
            resource,
            domain: Domain { name, origin, follows, within, idle_microwatts: None },
            never_rests: part.never_rests(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(package: u32, die: Option<u32>) -> Option<Place> {
        Some(Place { package, die })
    }

    #[test]
    fn zone_names_tell_part_and_place() {
        assert_eq!(Part::of_zone("package-12"), (Part::Package, at(12, None)));
        assert_eq!(Part::of_zone("package-0-die-1"), (Part::Package, at(0, Some(1))));
        assert_eq!(Part::of_zone("dram"), (Part::Dram, None));
        assert_eq!(Part::of_zone("package-x"), (Part::Other("package-x".into()), None));
        assert_eq!(Part::of_zone("mcp"), (Part::Other("mcp".into()), None));
        assert_eq!(Part::of_zone("psys-1"), (Part::Psys, None));
        assert_eq!(Part::of_zone("psys-x"), (Part::Other("psys-x".into()), None));
    }

    #[test]
    fn an_event_of_unknown_name_keeps_it() {
        assert_eq!(Part::of_event("energy-ram"), Part::Dram);
        assert_eq!(Part::of_event("energy-npu"), Part::Other("npu".into()));
    }

    #[test]
    fn one_core_is_named_by_its_lowest_cpu_within_its_package_and_follows_that_core_s_use() {
        let (part, place) = (Part::OneCore(4), at(1, None));
        let core = Subject::new(part.domain_name(place), &part, place, Origin::Measured);
        assert_eq!((&*core.domain.name, core.domain.within.as_deref()), ("core-cpu-4", Some("package-1")));
        assert_eq!((core.domain.follows, core.resource), (Follows::Core(4), Resource::core(4)));
    }

    #[test]
    fn what_lies_in_the_package_says_so() {
        let subject =
            |part: Part, place| Subject::new(part.domain_name(place), &part, place, Origin::Measured);
        let core = subject(Part::Core, at(1, None));
        assert_eq!((&*core.domain.name, core.domain.within.as_deref()), ("core-1", Some("package-1")));
        let die = subject(Part::Uncore, at(1, Some(2)));
        assert_eq!(die.domain.within.as_deref(), Some("package-1-die-2"));
        assert_eq!((die.domain.follows, &*die.resource.id), (Follows::Package(1), "1"));
        let dram = subject(Part::Dram, at(1, None));
        assert_eq!((&*dram.domain.name, dram.domain.within.as_deref()), ("dram-1", None));
    }

    #[test]
    fn psys_is_the_host_s_and_of_no_package() {
        let place = at(0, None);
        let psys = Subject::new(Part::Psys.domain_name(place), &Part::Psys, place, Origin::Measured);
        assert_eq!((&*psys.domain.name, psys.domain.follows), ("psys", Follows::Cpus));
        assert_eq!(psys.metric.name, "hw.host.energy");
        assert_eq!((psys.resource.kind, &*psys.resource.id), (ResourceKind::Psys, ""));
    }
}
