//! Which of powercap's directories meter what. Pure: names in, zones out.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::domain::{Part, Place};

/// A directory with a counter.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its own name: `intel-rapl:0:1`, a control type and the way down from it.
    pub(super) directory: String,
    pub(super) path: PathBuf,
    /// What its file `name` says: `package-0`, `dram`.
    pub(super) name: String,
}

/// A counter, and what it meters.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    pub(super) path: PathBuf,
    /// The domain's name, unique among all zones.
    pub(super) domain: String,
    pub(super) part: Part,
    pub(super) place: Option<Place>,
}

/// Says what each of `found` meters, and leaves out second ways to the same counter: the zones of `intel-rapl-mmio` whose
/// package `intel-rapl` has as well. Whatever name a zone has, it is kept.
pub(super) fn arrange(mut found: Vec<Found>) -> Vec<Zone> {
    found.sort_by_cached_key(|zone| {
        let (control, numbers) = split(&zone.directory);
        (control != "intel-rapl", control.to_owned(), numbers)
    });
    let mut places: HashMap<String, Place> = HashMap::new();
    let mut owners: HashMap<String, String> = HashMap::new();
    let mut zones = Vec::new();
    for Found { directory, path, name } in found {
        let (control, _) = split(&directory);
        let (part, own) = Part::of_zone(&name);
        let above = directory.rsplit_once(':').map(|(parent, _)| parent);
        let place = own.or_else(|| places.get(above?).copied());
        if let Some(place) = place {
            places.insert(directory.clone(), place);
        }
        let package = place.map(|place| Part::Package.domain_name(Some(place)));
        let mut domain = part.domain_name(place);
        let owner = package.as_ref().and_then(|package| owners.get(package)).or_else(|| owners.get(&domain));
        if owner.is_some_and(|owner| owner != control) {
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
        arrange(found.collect())
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
    fn a_package_s_mmio_twin_goes_with_its_children_and_one_without_a_twin_stays() {
        let seen = domains(&[
            ("intel-rapl-mmio:0", "package-0"),
            ("intel-rapl-mmio:0:0", "dram"),
            ("intel-rapl-mmio:1", "package-1"),
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
        ]);
        let expected = ["intel-rapl:0=package-0", "intel-rapl:0:0=core-0", "intel-rapl-mmio:1=package-1"];
        assert_eq!(seen, expected);
    }

    #[test]
    fn unknown_names_stay_under_their_own_and_equal_ones_are_told_apart() {
        let seen = domains(&[
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "mcp"),
            ("intel-rapl:1", "psys"),
            ("intel-rapl:2", "psys"),
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
