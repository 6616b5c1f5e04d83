//! Decides what each of powercap's directories meters. Pure: names in, zones out.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::domain::{PackageDie, Part};

/// A directory with a counter.
#[derive(Clone, Debug)]
pub(crate) struct ZoneDirectory {
    /// Its own name: `intel-rapl:0:1`, a control type and the path of numbers below it.
    pub(crate) directory: String,
    pub(crate) path: PathBuf,
    /// The content of its file `name`: `package-0`, `dram`.
    pub(crate) name: String,
}

/// A counter, and what it meters.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) path: PathBuf,
    /// The domain's name, unique among all zones.
    pub(crate) domain: String,
    pub(crate) part: Part,
    pub(crate) package_die: Option<PackageDie>,
}

/// Decides what each of `found` meters, and leaves out second interfaces to the same counter: those of
/// `intel-rapl-mmio` that `intel-rapl` has as well. Zones with unknown names are kept. `core_of_zone`: the
/// CPU whose core the zone `core` of a package meters, if it does not meter all cores.
pub(crate) fn identify(
    mut found: Vec<ZoneDirectory>,
    core_of_zone: impl Fn(u32) -> Option<u32>,
) -> Vec<Zone> {
    found.sort_by_cached_key(|zone| {
        let (control, numbers) = split(&zone.directory);
        (control != "intel-rapl", control.to_owned(), numbers)
    });
    let mut places: HashMap<String, PackageDie> = HashMap::new();
    let mut owners: HashMap<String, String> = HashMap::new();
    let mut zones = Vec::new();
    for ZoneDirectory { directory, path, name } in found {
        let (control, _) = split(&directory);
        let (mut part, own) = Part::of_zone(&name);
        let above = directory.rsplit_once(':').map(|(parent, _)| parent);
        let package_die = own.or_else(|| places.get(above?).copied());
        if let Some(package_die) = package_die {
            places.insert(directory.clone(), package_die);
        }
        if let (Part::Core, Some(cpu)) =
            (&part, package_die.and_then(|package_die| core_of_zone(package_die.package)))
        {
            part = Part::OneCore(cpu);
        }
        let mut domain = part.domain_name(package_die);
        if owners.get(&domain).is_some_and(|owner| owner != control) {
            tracing::debug!(zone = %path.display(), name, "left out: another zone is the same counter");
            continue;
        }
        // Two zones of one control type and one name (a psys per package on some servers) are two counters.
        let mut nth = 1;
        while owners.contains_key(&domain) {
            domain = format!("{}-{nth}", part.domain_name(package_die));
            nth += 1;
        }
        owners.insert(domain.clone(), control.to_owned());
        zones.push(Zone { path, domain, part, package_die });
    }
    zones
}

/// `intel-rapl:0:1` as its control type and the path of numbers below it.
fn split(directory: &str) -> (&str, Vec<u32>) {
    let mut parts = directory.split(':');
    (parts.next().unwrap_or_default(), parts.map(|n| n.parse().unwrap_or(u32::MAX)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(found: &[(&str, &str)]) -> Vec<String> {
        let found = found.iter().map(|&(directory, name)| ZoneDirectory {
            directory: directory.to_owned(),
            path: directory.into(),
            name: name.to_owned(),
        });
        identify(found.collect(), |_| None)
            .into_iter()
            .map(|zone| format!("{}={}", zone.path.display(), zone.domain))
            .collect()
    }

    #[test]
    fn children_take_the_package_of_their_parent() {
        let seen = domains(&[
            ("intel-rapl:10", "package-1-die-0"),
            ("intel-rapl:2", "package-0-die-1"),
            ("intel-rapl:10:0", "dram"),
            ("intel-rapl:2:0", "core"),
        ]);
        let expected = [
            "intel-rapl:2=package-0-die-1",
            "intel-rapl:2:0=core-0-die-1",
            "intel-rapl:10=package-1-die-0",
            "intel-rapl:10:0=dram-1-die-0",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn mmio_zones_are_left_out_if_another_zone_is_the_same_counter() {
        let seen = domains(&[
            ("intel-rapl-mmio:0", "package-0"),
            ("intel-rapl-mmio:0:0", "core"),
            ("intel-rapl-mmio:0:1", "dram"),
            ("intel-rapl-mmio:1", "package-1"),
            ("intel-rapl-mmio:2", "psys"),
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:1", "psys"),
        ]);
        let expected = [
            "intel-rapl:0=package-0",
            "intel-rapl:0:0=core-0",
            "intel-rapl:1=psys",
            "intel-rapl-mmio:0:1=dram-0",
            "intel-rapl-mmio:1=package-1",
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_core_zone_that_meters_one_core_is_named_after_it() {
        let found =
            [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "package-1")];
        let found = found.map(|(directory, name)| ZoneDirectory {
            directory: directory.to_owned(),
            path: directory.into(),
            name: name.to_owned(),
        });
        let zones = identify(found.to_vec(), |package| Some(package * 8));
        let domains: Vec<_> = zones.iter().map(|zone| (&*zone.domain, &zone.part)).collect();
        let expected =
            [("package-0", &Part::Package), ("core-cpu-0", &Part::OneCore(0)), ("package-1", &Part::Package)];
        assert_eq!(domains, expected);
    }

    #[test]
    fn unknown_names_are_kept_and_equal_ones_are_numbered() {
        let seen = domains(&[
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "mcp"),
            ("intel-rapl:1", "psys"),
            ("intel-rapl:2", "psys-1"),
            ("intel-rapl:3", "accelerator"),
            ("odd", "odd"),
        ]);
        let expected = [
            "intel-rapl:0=package-0",
            "intel-rapl:0:0=mcp-0",
            "intel-rapl:1=psys",
            "intel-rapl:2=psys-1",
            "intel-rapl:3=accelerator",
            "odd=odd",
        ];
        assert_eq!(seen, expected);
    }
}
