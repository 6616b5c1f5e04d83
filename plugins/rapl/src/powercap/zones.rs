//! Which of powercap's directories meter what. Pure: names in, zones out.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::domain::{Part, Place};

/// A directory with a counter.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its own name: `intel-rapl:0:1`, a control type and the way down from it.
    pub(crate) directory: String,
    pub(crate) path: PathBuf,
    /// What its file `name` says: `package-0`, `dram`.
    pub(crate) name: String,
}

/// A counter, and what it meters.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    pub(crate) path: PathBuf,
    /// The domain's name, unique among all zones.
    pub(crate) domain: String,
    pub(crate) part: Part,
    pub(crate) place: Option<Place>,
}

/// Says what each of `found` meters, and leaves out second ways to the same counter: what `intel-rapl-mmio`
/// has and `intel-rapl` has as well. Whatever name a zone has, it is kept. `lone_core` says of a package
/// whose zone `core` meters one core only the lowest CPU of that core.
pub(crate) fn arrange(mut found: Vec<Found>, lone_core: impl Fn(u32) -> Option<u32>) -> Vec<Zone> {
    found.sort_by_cached_key(|zone| {
        let (control, numbers) = split(&zone.directory);
        (control != "intel-rapl", control.to_owned(), numbers)
    });
    let mut places: HashMap<String, Place> = HashMap::new();
    let mut owners: HashMap<String, String> = HashMap::new();
    let mut zones = Vec::new();
    for Found { directory, path, name } in found {
        let (control, _) = split(&directory);
        let (mut part, own) = Part::of_zone(&name);
        let above = directory.rsplit_once(':').map(|(parent, _)| parent);
        let place = own.or_else(|| places.get(above?).copied());
        if let Some(place) = place {
            places.insert(directory.clone(), place);
        }
        if let (Part::Core, Some(cpu)) = (&part, place.and_then(|place| lone_core(place.package))) {
            part = Part::OneCore(cpu);
        }
        let mut domain = part.domain_name(place);
        if owners.get(&domain).is_some_and(|owner| owner != control) {
            tracing::debug!(zone = %path.display(), name, "left out: the same counter is read another way");
            continue;
        }
        // Two zones of one control type and one name (a psys per package on some servers) are two counters.
        let mut nth = 1;
        while owners.contains_key(&domain) {
            domain = format!("{}-{nth}", part.domain_name(place));
            nth += 1;
        }
        owners.insert(domain.clone(), control.to_owned());
        zones.push(Zone { path, domain, part, place });
    }
    zones
}

/// `intel-rapl:0:1` as its control type and the numbers of the way down.
fn split(directory: &str) -> (&str, Vec<u32>) {
    let mut parts = directory.split(':');
    (parts.next().unwrap_or_default(), parts.map(|n| n.parse().unwrap_or(u32::MAX)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(found: &[(&str, &str)]) -> Vec<String> {
        let found = found.iter().map(|&(directory, name)| Found {
            directory: directory.to_owned(),
            path: directory.into(),
            name: name.to_owned(),
        });
        arrange(found.collect(), |_| None)
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
    fn mmio_twins_go_and_what_has_no_twin_stays() {
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
    fn where_the_zone_of_cores_is_one_core_it_is_called_that() {
        let found =
            [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("intel-rapl:1", "package-1")];
        let found = found.map(|(directory, name)| Found {
            directory: directory.to_owned(),
            path: directory.into(),
            name: name.to_owned(),
        });
        let zones = arrange(found.to_vec(), |package| Some(package * 8));
        let domains: Vec<_> = zones.iter().map(|zone| (&*zone.domain, &zone.part)).collect();
        let expected =
            [("package-0", &Part::Package), ("core-cpu-0", &Part::OneCore(0)), ("package-1", &Part::Package)];
        assert_eq!(domains, expected);
    }

    #[test]
    fn unknown_names_stay_under_their_own_and_equal_ones_are_told_apart() {
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
