//! Which of RAPL's interfaces can be used, and what gives those that can't. `doctor` asks [`probe`]; the source asks
//! [`choose`]. Both open the very same things, so that they can't disagree.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use wattrace_api::{Error, Finding, Origin, Verdict};

use crate::config::{Interface, RaplConfig};
use crate::meter::{Group, Unavailable};
use crate::{perf, powercap};

/// What there is of RAPL under a tree.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// The tree, `/sys` but for tests.
    pub sysfs_root: PathBuf,
    /// The interface of perf counters.
    pub perf: Availability,
    /// The interface of files.
    pub powercap: Availability,
}

impl Probe {
    /// The rows of `wattrace doctor`: one interface is enough, and without any the others go on.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let enough = self.perf.usable() || self.powercap.usable();
        let row = |name: &str, a: &Availability| Finding {
            what: format!("RAPL through {name}"),
            verdict: if a.usable() { Verdict::Ok } else { Verdict::Optional },
            found: match a.origin {
                Some(origin) => format!("{} ({})", a.domains.join(", "), origin.as_str()),
                None => a.reason.clone(),
            },
            remedy: if enough { String::new() } else { a.remedy.clone() },
        };
        vec![row("perf", &self.perf), row("powercap", &self.powercap)]
    }
}

/// Whether one interface can be used.
#[derive(Clone, Debug, Serialize)]
pub struct Availability {
    /// Its directory.
    pub looked_in: PathBuf,
    /// The domains it meters now; empty if it can't be used.
    pub domains: Vec<String>,
    /// Where their numbers come from, if it can be used.
    #[serde(serialize_with = "as_word")]
    pub origin: Option<Origin>,
    /// Why it can't be used; empty if it can.
    pub reason: String,
    /// What would make it usable; empty if it is.
    pub remedy: String,
}

impl Availability {
    /// Whether it meters anything.
    pub fn usable(&self) -> bool {
        !self.domains.is_empty()
    }

    fn of(looked_in: PathBuf, opened: Result<Vec<Group>, Unavailable>) -> Self {
        let nothing = Self {
            looked_in,
            domains: Vec::new(),
            origin: None,
            reason: String::new(),
            remedy: String::new(),
        };
        match opened {
            Ok(groups) => {
                let domains = || groups.iter().flat_map(|g| &g.counters).map(|(subject, _)| &subject.domain);
                let (names, origin) = (domains().map(|d| d.name.clone()), domains().map(|d| d.origin).max());
                Self { domains: names.collect(), origin, ..nothing }
            }
            Err(Unavailable { reason, remedy, .. }) => Self { reason, remedy, ..nothing },
        }
    }
}

fn as_word<S: Serializer>(origin: &Option<Origin>, serializer: S) -> Result<S::Ok, S::Error> {
    origin.map(Origin::as_str).serialize(serializer)
}

/// Tries both interfaces under `sysfs_root`, and leaves nothing open.
pub fn probe(sysfs_root: &Path) -> Probe {
    Probe {
        sysfs_root: sysfs_root.to_owned(),
        perf: Availability::of(perf::directory(sysfs_root), perf::open(sysfs_root)),
        powercap: Availability::of(powercap::directory(sysfs_root), powercap::open(sysfs_root)),
    }
}

/// Opens the interface that `config` asks for. That there is none is a state, not a failure; the error says what was looked
/// for, where, and what gives it.
pub(crate) fn choose(config: &RaplConfig) -> Result<Vec<Group>, Error> {
    let root = Path::new(&config.sysfs_root);
    let named = |interface, groups: Vec<Group>| {
        tracing::info!(
            interface,
            counters = groups.iter().map(|g| g.counters.len()).sum::<usize>(),
            "RAPL opened"
        );
        groups
    };
    let alone = |interface, opened: Result<_, Unavailable>| match opened {
        Ok(groups) => Ok(named(interface, groups)),
        Err(e) => Err(Error::gone(format!("RAPL through {interface}: {e}"))),
    };
    match config.interface {
        Interface::Perf => alone("perf", perf::open(root)),
        Interface::Powercap => alone("powercap", powercap::open(root)),
        Interface::Auto => perf::open(root).map(|groups| named("perf", groups)).or_else(|perf| {
            powercap::open(root)
                .map(|groups| named("powercap", groups))
                .map_err(|powercap| Error::gone(format!("no RAPL meter. powercap: {powercap}. perf: {perf}")))
        }),
        Interface::Msr => Err(Error::gone(
            "plugins.rapl.interface: \"msr\" is not built yet; set it to \"auto\", \"perf\" or \"powercap\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{Tree, Zone};

    #[test]
    fn a_bare_tree_offers_nothing_and_says_what_would() {
        let root = tempfile::tempdir().unwrap();
        let seen = probe(root.path());
        for interface in [&seen.perf, &seen.powercap] {
            assert!(!interface.usable() && interface.origin.is_none());
            assert!(interface.looked_in.starts_with(root.path()));
            assert!(interface.reason.contains("No such file"), "{}", interface.reason);
            assert!(interface.remedy.contains("sudo modprobe "), "{}", interface.remedy);
        }
    }

    #[test]
    fn what_is_there_is_named_with_its_origin() {
        let root = tempfile::tempdir().unwrap();
        Tree::create(root.path(), vec![Zone::new("intel-rapl:0", "package-0", 1.0)]).unwrap();
        let seen = serde_json::to_value(probe(root.path())).unwrap();
        assert_eq!(seen["powercap"]["domains"], serde_json::json!(["package-0"]));
        assert_eq!(seen["powercap"]["origin"], "simulated");
        assert_eq!(seen["perf"]["domains"], serde_json::json!([]));
    }

    #[test]
    fn auto_without_any_names_both_places_and_remedies() {
        let root = tempfile::tempdir().unwrap();
        let sysfs_root = root.path().to_str().unwrap().to_owned();
        for (interface, expected) in [
            (
                Interface::Auto,
                vec!["class/powercap", "modprobe intel_rapl_msr", "devices/power", "modprobe rapl"],
            ),
            (Interface::Perf, vec!["devices/power", "modprobe rapl"]),
            (Interface::Powercap, vec!["class/powercap", "modprobe intel_rapl_msr"]),
            (Interface::Msr, vec!["plugins.rapl.interface", "not built yet", "\"auto\""]),
        ] {
            let config = RaplConfig { interface, sysfs_root: sysfs_root.clone(), ..RaplConfig::default() };
            let error = choose(&config).err().unwrap();
            assert_eq!(error.kind(), wattrace_api::ErrorKind::Gone);
            for part in expected {
                assert!(error.to_string().contains(part), "{interface:?}: {error}");
            }
        }
    }
}
