//! Which of RAPL's interfaces can be used, and what gives those that can't. `doctor` asks [`probe`]; the
//! source asks [`choose`]. Both open the very same things, so that they can't disagree.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use wattrace_api::{Error, Finding, Origin, Verdict};

use crate::config::{Interface, RaplConfig};
use crate::filtering::Filtering;
use crate::meter::{Opened, Unavailable};
use crate::{alive, msr, perf, powercap};

/// What there is of RAPL under a tree.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// The tree, `/sys` but for tests.
    pub sysfs_root: PathBuf,
    /// The interface of perf counters.
    pub perf: Availability,
    /// The interface of files.
    pub powercap: Availability,
    /// The processor's own registers.
    pub msr: Availability,
}

impl Probe {
    /// The rows of `wattrace doctor`: one interface is enough, and without any the others go on.
    pub(crate) fn findings(&self, filtering: &Filtering) -> Vec<Finding> {
        let all = [("perf", &self.perf), ("powercap", &self.powercap), ("msr", &self.msr)];
        let enough = all.iter().any(|(_, a)| a.usable());
        let row = |(name, a): (&str, &Availability)| Finding {
            what: format!("RAPL through {name}"),
            verdict: if a.usable() { Verdict::Ok } else { Verdict::Optional },
            found: match a.origin {
                Some(origin) => format!("{} ({})", shortened(&a.domains), origin.as_str()),
                None => a.reason.clone(),
            },
            remedy: if enough { String::new() } else { a.remedy.clone() },
        };
        let mut rows: Vec<_> = all.into_iter().map(row).collect();
        if enough {
            rows.push(filtering.finding());
        }
        rows
    }
}

/// The domains, of a hundred cores the number only.
fn shortened(domains: &[String]) -> String {
    let (cores, others): (Vec<&str>, Vec<&str>) =
        domains.iter().map(String::as_str).partition(|domain| domain.starts_with("core-cpu-"));
    let cores = match cores[..] {
        [] => None,
        [core] => Some(core.to_owned()),
        _ => Some(format!("{} cores", cores.len())),
    };
    others.into_iter().map(str::to_owned).chain(cores).collect::<Vec<_>>().join(", ")
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

    fn of(looked_in: PathBuf, opened: Result<Opened, Unavailable>) -> Self {
        let nothing = Self {
            looked_in,
            domains: Vec::new(),
            origin: None,
            reason: String::new(),
            remedy: String::new(),
        };
        match opened {
            Ok(opened) => {
                let domains = opened.subjects().map(|subject| subject.domain.name.clone()).collect();
                Self { domains, origin: opened.origin(), ..nothing }
            }
            Err(Unavailable { reason, remedy, .. }) => Self { reason, remedy, ..nothing },
        }
    }
}

fn as_word<S: Serializer>(origin: &Option<Origin>, serializer: S) -> Result<S::Ok, S::Error> {
    origin.map(Origin::as_str).serialize(serializer)
}

/// Tries all interfaces as `config` has them, and leaves nothing open.
pub fn probe(config: &RaplConfig) -> Probe {
    let (sysfs_root, dev_root) = (Path::new(&config.sysfs_root), Path::new(&config.dev_root));
    let looked_in = [perf::directory(sysfs_root), powercap::directory(sysfs_root), msr::directory(dev_root)];
    let [perf, powercap, msr] =
        std::array::from_fn(|n| Availability::of(looked_in[n].clone(), open(ALL[n], config)));
    Probe { sysfs_root: sysfs_root.to_owned(), perf, powercap, msr }
}

/// In the order in which they are preferred: perf's counters never wrap and are read at once, and registers
/// that the kernel reads need no table of units of our own.
const ALL: [Interface; 3] = [Interface::Perf, Interface::Powercap, Interface::Msr];

/// What an interface meters, without the counters that stand still.
fn open(interface: Interface, config: &RaplConfig) -> Result<Opened, Unavailable> {
    let (sysfs_root, dev_root) = (Path::new(&config.sysfs_root), Path::new(&config.dev_root));
    let (mut opened, looked_in) = match interface {
        Interface::Powercap => (powercap::open(sysfs_root)?, powercap::directory(sysfs_root)),
        Interface::Msr => (msr::open(sysfs_root, dev_root, config.cores)?, msr::directory(dev_root)),
        Interface::Perf | Interface::Auto => {
            (perf::open(sysfs_root, config.cores)?, perf::directory(sysfs_root))
        }
    };
    let dead = alive::take_out_the_dead(&mut opened).join(", ");
    match (dead.is_empty(), opened.groups.is_empty()) {
        (true, _) => {}
        (false, true) => {
            let reason = format!("{dead} is shown, but stands still");
            return Err(Unavailable { looked_in, reason, remedy: STANDS_STILL.to_owned() });
        }
        (false, false) => {
            opened.caveats.push(format!("left out: {dead} stands still. {STANDS_STILL}"));
        }
    }
    Ok(opened)
}

const STANDS_STILL: &str =
    "a virtual machine or a firmware shows counters that nothing feeds; the host may have a meter";

/// An interface that is there.
pub(crate) struct Candidate {
    pub(crate) interface: &'static str,
    pub(crate) opened: Opened,
}

/// Opens the interface that `config` asks for, and after it all others that are there and of the same origin,
/// to compare with. That there is none is a state, not a failure; the error says what was looked for, where,
/// and what gives it.
pub(crate) fn choose(config: &RaplConfig) -> Result<Vec<Candidate>, Error> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut missing = Vec::new();
    let asked_for = |interface: &Interface| *interface == config.interface;
    let others = ALL.iter().filter(|interface| !asked_for(interface));
    for &interface in ALL.iter().filter(|interface| asked_for(interface)).chain(others) {
        let name = interface.as_str();
        match open(interface, config) {
            Ok(opened) => {
                let origin = candidates.first().map(|first| first.opened.origin());
                if origin.is_none_or(|origin| origin == opened.origin()) {
                    candidates.push(Candidate { interface: name, opened });
                }
            }
            Err(e) if asked_for(&interface) => return Err(Error::gone(format!("RAPL through {name}: {e}"))),
            Err(e) => missing.push(format!("{name}: {e}")),
        }
    }
    if candidates.is_empty() {
        return Err(Error::gone(format!("no RAPL meter. {}", missing.join(". "))));
    }
    missing.iter().for_each(|e| tracing::debug!("not to compare with: {e}"));
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::{Registers, Tree, Zone, cpus};

    fn config(root: &Path, interface: Interface) -> RaplConfig {
        let (sysfs_root, dev_root) = (root.to_str().unwrap().to_owned(), root.join("dev"));
        let dev_root = dev_root.to_str().unwrap().to_owned();
        RaplConfig { interface, sysfs_root, dev_root, ..RaplConfig::default() }
    }

    #[test]
    fn a_bare_tree_offers_nothing_and_says_what_would() {
        let root = tempfile::tempdir().unwrap();
        let seen = probe(&config(root.path(), Interface::Auto));
        for interface in [&seen.perf, &seen.powercap, &seen.msr] {
            assert!(!interface.usable() && interface.origin.is_none());
            assert!(interface.looked_in.starts_with(root.path()));
        }
        for interface in [&seen.perf, &seen.powercap] {
            assert!(interface.reason.contains("No such file"), "{}", interface.reason);
            assert!(interface.remedy.contains("sudo modprobe "), "{}", interface.remedy);
        }
        assert!(seen.msr.reason.contains("modalias tells of no such processor"), "{}", seen.msr.reason);
    }

    #[test]
    fn what_is_there_is_named_with_its_origin() {
        let root = tempfile::tempdir().unwrap();
        Tree::create(root.path(), vec![Zone::new("intel-rapl:0", "package-0", 1.0)]).unwrap();
        let seen = serde_json::to_value(probe(&config(root.path(), Interface::Auto))).unwrap();
        assert_eq!(seen["powercap"]["domains"], serde_json::json!(["package-0"]));
        assert_eq!(seen["powercap"]["origin"], "simulated");
        assert_eq!(seen["perf"]["domains"], serde_json::json!([]));
    }

    #[test]
    fn what_is_asked_for_comes_first_and_the_others_are_there_to_compare_with() {
        let root = tempfile::tempdir().unwrap();
        Tree::create(root.path(), vec![Zone::new("intel-rapl:0", "package-0", 1.0)]).unwrap();
        cpus(root.path(), "cpu:type:x86,ven0000fam0006mod009E:feature:", &[(0, 0, "0")]).unwrap();
        let registers = Registers::create(&root.path().join("dev"), 0).unwrap();
        for (register, value) in [(0x606, 0x000a_0e03), (0x611, 5)] {
            registers.set(register, value).unwrap();
        }
        for (interface, expected) in [
            (Interface::Auto, ["powercap", "msr"]),
            (Interface::Powercap, ["powercap", "msr"]),
            (Interface::Msr, ["msr", "powercap"]),
        ] {
            let candidates = choose(&config(root.path(), interface)).unwrap();
            let names: Vec<_> = candidates.iter().map(|candidate| candidate.interface).collect();
            assert_eq!(names, expected, "{interface:?}");
        }
    }

    #[test]
    fn without_any_the_places_and_remedies_are_named() {
        let root = tempfile::tempdir().unwrap();
        let powercap = ["class/powercap", "modprobe intel_rapl_msr"];
        let perf = ["devices/power", "modprobe rapl"];
        let msr = ["dev/cpu", "modalias"];
        for (interface, expected) in [
            (Interface::Auto, [powercap, perf, msr].concat()),
            (Interface::Perf, perf.to_vec()),
            (Interface::Powercap, powercap.to_vec()),
            (Interface::Msr, msr.to_vec()),
        ] {
            let error = choose(&config(root.path(), interface)).err().unwrap();
            assert_eq!(error.kind(), wattrace_api::ErrorKind::Gone);
            for part in expected {
                assert!(error.to_string().contains(part), "{interface:?}: {error}");
            }
        }
    }

    #[test]
    fn a_hundred_cores_are_one_word_of_doctor_s() {
        let domains = |cores: u32| {
            let cores = (0..cores).map(|n| format!("core-cpu-{n}"));
            shortened(&std::iter::once("package-0".to_owned()).chain(cores).collect::<Vec<_>>())
        };
        assert_eq!(
            [domains(0), domains(1), domains(99)],
            ["package-0", "package-0, core-cpu-0", "package-0, 99 cores"]
        );
    }
}
