//! Maps the names of powercap's zones and perf's events to a domain, a resource and a metric. Pure;
//! `powercap` and `perf` read the directories.

use std::fmt;

use wattrace_api::{Domain, Follows, Origin, Resource, ResourceKind, metric};
use wattrace_meter::Subject;

/// The package that a counter belongs to, and the die within it if each die has a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PackageDie {
    pub(crate) package: u32,
    pub(crate) die: Option<u32>,
}

impl fmt::Display for PackageDie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.die {
            Some(die) => write!(f, "{}-die-{die}", self.package),
            None => write!(f, "{}", self.package),
        }
    }
}

/// The part of the machine that a counter covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Package,
    /// All cores of the package together.
    Core,
    /// One core, named by its lowest CPU.
    OneCore(u32),
    Uncore,
    Dram,
    Psys,
    /// A part that is not known here, under the kernel's name for it.
    Other(String),
}

impl Part {
    /// The part that a powercap zone's name stands for, and its package and die if the name contains them.
    pub(crate) fn of_zone(name: &str) -> (Part, Option<PackageDie>) {
        if let Some(package_die) = name.strip_prefix("package-").and_then(parse_package_die) {
            return (Part::Package, Some(package_die));
        }
        let part = match name {
            "core" => Part::Core,
            "uncore" => Part::Uncore,
            "dram" => Part::Dram,
            "psys" => Part::Psys,
            // Further ones, such as `psys-1`, which is read through package 1.
            other if other.strip_prefix("psys-").is_some_and(|n| n.parse::<u32>().is_ok()) => Part::Psys,
            other => Part::Other(other.to_owned()),
        };
        (part, None)
    }

    /// The part that one of perf's events stands for: `energy-pkg`, `energy-ram`. perf's "gpu" is the
    /// graphics unit within a package, RAPL's plane 1, which powercap calls `uncore`.
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
    pub(crate) fn domain_name(&self, package_die: Option<PackageDie>) -> String {
        let kind = self.kind();
        match (self, package_die) {
            (Part::OneCore(cpu), _) => format!("core-cpu-{cpu}"),
            (Part::Psys, _) | (_, None) => kind.as_str().to_owned(),
            (_, Some(package_die)) => format!("{}-{package_die}", kind.as_str()),
        }
    }
}

/// `0` or `0-die-1`.
fn parse_package_die(text: &str) -> Option<PackageDie> {
    match text.split_once("-die-") {
        Some((package, die)) => {
            Some(PackageDie { package: package.parse().ok()?, die: Some(die.parse().ok()?) })
        }
        None => Some(PackageDie { package: text.parse().ok()?, die: None }),
    }
}

/// The subject of the counter named `name` that covers `part` of the package at `package_die`. Cores, uncore
/// and unknown parts lie within their package; memory and psys do not.
pub(crate) fn subject(name: String, part: &Part, package_die: Option<PackageDie>, origin: Origin) -> Subject {
    // psys covers all packages, whichever package's register it is read through.
    let package_die = package_die.filter(|_| *part != Part::Psys);
    let within = match part {
        Part::Package | Part::Dram | Part::Psys => None,
        _ => package_die.map(|p| Part::Package.domain_name(Some(p))),
    };
    let id = package_die.map(|p| p.package.to_string()).unwrap_or_default();
    let (resource, follows) = match part {
        Part::OneCore(cpu) => (Resource::core(*cpu), Follows::Core(*cpu)),
        part => {
            let follows = Follows::package_or_all(package_die.map(|p| p.package));
            (Resource { kind: part.kind(), id: id.into() }, follows)
        }
    };
    Subject {
        metric: if *part == Part::Psys { metric::HW_HOST_ENERGY } else { metric::HW_ENERGY },
        resource,
        domain: Domain { name, origin, follows, within, idle_microwatts: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(package: u32, die: Option<u32>) -> Option<PackageDie> {
        Some(PackageDie { package, die })
    }

    #[test]
    fn a_zone_name_stands_for_a_part_and_its_package_and_die() {
        assert_eq!(Part::of_zone("package-12"), (Part::Package, at(12, None)));
        assert_eq!(Part::of_zone("package-0-die-1"), (Part::Package, at(0, Some(1))));
        assert_eq!(Part::of_zone("dram"), (Part::Dram, None));
        assert_eq!(Part::of_zone("package-x"), (Part::Other("package-x".into()), None));
        assert_eq!(Part::of_zone("mcp"), (Part::Other("mcp".into()), None));
        assert_eq!(Part::of_zone("psys-1"), (Part::Psys, None));
        assert_eq!(Part::of_zone("psys-x"), (Part::Other("psys-x".into()), None));
    }

    #[test]
    fn an_unknown_event_keeps_its_name() {
        assert_eq!(Part::of_event("energy-ram"), Part::Dram);
        assert_eq!(Part::of_event("energy-npu"), Part::Other("npu".into()));
    }

    #[test]
    fn one_core_is_named_by_its_lowest_cpu_and_follows_that_cores_usage() {
        let (part, package_die) = (Part::OneCore(4), at(1, None));
        let core = subject(part.domain_name(package_die), &part, package_die, Origin::Measured);
        assert_eq!((&*core.domain.name, core.domain.within.as_deref()), ("core-cpu-4", Some("package-1")));
        assert_eq!((core.domain.follows, core.resource), (Follows::Core(4), Resource::core(4)));
    }

    #[test]
    fn cores_and_uncore_lie_within_their_package_and_memory_does_not() {
        let subject = |part: Part, package_die| {
            subject(part.domain_name(package_die), &part, package_die, Origin::Measured)
        };
        let core = subject(Part::Core, at(1, None));
        assert_eq!((&*core.domain.name, core.domain.within.as_deref()), ("core-1", Some("package-1")));
        let die = subject(Part::Uncore, at(1, Some(2)));
        assert_eq!(die.domain.within.as_deref(), Some("package-1-die-2"));
        assert_eq!((die.domain.follows, &*die.resource.id), (Follows::Package(1), "1"));
        let dram = subject(Part::Dram, at(1, None));
        assert_eq!((&*dram.domain.name, dram.domain.within.as_deref()), ("dram-1", None));
    }

    #[test]
    fn psys_belongs_to_the_host_and_to_no_package() {
        let package_die = at(0, None);
        let psys = subject(Part::Psys.domain_name(package_die), &Part::Psys, package_die, Origin::Measured);
        assert_eq!((&*psys.domain.name, psys.domain.follows), ("psys", Follows::Cpus));
        assert_eq!(psys.metric.name, "hw.host.energy");
        assert_eq!((psys.resource.kind, &*psys.resource.id), (ResourceKind::Psys, ""));
    }
}
