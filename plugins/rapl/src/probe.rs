//! Which of RAPL's interfaces can be used, and what makes the others usable. [`probe`] is for `doctor`,
//! [`candidates`] for the source. Both open the same files, so that they cannot disagree.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use wattrace_api::{Error, Finding, Origin, Verdict};
use wattrace_meter::sysfs::Fault;

use crate::config::{Interface, RaplConfig};
use crate::cpu_model::CpuModel;
use crate::energy_filtering::EnergyFiltering;
use crate::meter::{OpenInterface, UNREADABLE, Unavailable};
use crate::stuck_counters::remove_stuck_counters;
use crate::{known_models, msr, perf, powercap};

/// The interfaces to RAPL under a tree.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// The tree: `/sys`, except in tests.
    pub sysfs_root: PathBuf,
    /// The perf interface.
    pub perf: Availability,
    /// The powercap interface.
    pub powercap: Availability,
    /// The processor's own registers.
    pub msr: Availability,
}

impl Probe {
    /// The rows of `wattrace doctor`. One usable interface is enough.
    pub(crate) fn findings(&self, filtering: &EnergyFiltering, cpu: Option<CpuModel>) -> Vec<Finding> {
        let all = [("perf", &self.perf), ("powercap", &self.powercap), ("msr", &self.msr)];
        let any_usable = all.iter().any(|(_, a)| a.usable());
        let row = |(name, a): (&str, &Availability)| Finding {
            what: format!("RAPL through {name}"),
            verdict: if a.usable() { Verdict::Ok } else { Verdict::Optional },
            found: match a.origin {
                Some(origin) => format!("{} ({})", summary(&a.domains), origin.as_str()),
                None => a.reason.clone(),
            },
            remedy: if any_usable { String::new() } else { a.remedy.clone() },
        };
        let mut rows: Vec<_> = all.into_iter().map(row).collect();
        if any_usable {
            rows.push(filtering.finding());
            rows.extend(known_models::finding(cpu));
        }
        rows
    }
}

/// The names of the domains, with the number of cores in place of their names.
fn summary(domains: &[String]) -> String {
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
    /// The domains it meters now; empty if it cannot be used.
    pub domains: Vec<String>,
    /// Where the values come from, if it can be used.
    #[serde(serialize_with = "as_word")]
    pub origin: Option<Origin>,
    /// Why it cannot be used; empty if it can.
    pub reason: String,
    /// What makes it usable; empty if it is.
    pub remedy: String,
}

impl Availability {
    /// Whether it meters anything.
    pub fn usable(&self) -> bool {
        !self.domains.is_empty()
    }

    fn of(looked_in: PathBuf, opened: Result<OpenInterface, Unavailable>) -> Self {
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

/// Opens all interfaces according to `config`, and closes them again.
pub fn probe(config: &RaplConfig) -> Probe {
    let (sysfs_root, dev_root) = (Path::new(&config.sysfs_root), Path::new(&config.dev_root));
    let looked_in = [perf::directory(sysfs_root), powercap::directory(sysfs_root), msr::directory(dev_root)];
    let [perf, powercap, msr] =
        std::array::from_fn(|n| Availability::of(looked_in[n].clone(), open(ALL[n], config)));
    Probe { sysfs_root: sysfs_root.to_owned(), perf, powercap, msr }
}

/// In order of preference: perf's counters never wrap and are read together, and the kernel knows the units
/// of the registers that it reads itself.
const ALL: [Interface; 3] = [Interface::Perf, Interface::Powercap, Interface::Msr];

/// Opens an interface of which something can be read, without the counters that nothing feeds.
fn open(interface: Interface, config: &RaplConfig) -> Result<OpenInterface, Unavailable> {
    let (sysfs_root, dev_root) = (Path::new(&config.sysfs_root), Path::new(&config.dev_root));
    let (mut opened, looked_in) = match interface {
        Interface::Powercap => (powercap::open(sysfs_root)?, powercap::directory(sysfs_root)),
        Interface::Msr => (msr::open(sysfs_root, dev_root, config.cores)?, msr::directory(dev_root)),
        Interface::Perf | Interface::Auto => {
            (perf::open(sysfs_root, config.cores)?, perf::directory(sysfs_root))
        }
    };
    if let Err(Fault { what: reason, .. }) = opened.read_once() {
        return Err(Unavailable::new(looked_in, reason, UNREADABLE));
    }
    let stuck = remove_stuck_counters(&mut opened).join(", ");
    match (stuck.is_empty(), opened.groups.is_empty()) {
        (true, _) => {}
        (false, true) => {
            let reason = format!("{stuck} exists, but stands still");
            return Err(Unavailable::new(looked_in, reason, STUCK));
        }
        (false, false) => {
            opened.warnings.push(format!("left out: {stuck} stands still. {STUCK}"));
        }
    }
    Ok(opened)
}

const STUCK: &str =
    "virtual machines and some firmware show counters that nothing feeds; the host may have a meter";

/// An interface that can be used.
pub(crate) struct Candidate {
    pub(crate) interface: &'static str,
    pub(crate) opened: OpenInterface,
}

/// Opens the interface that `config` selects, and after it all others of the same origin, to compare with. A
/// machine without any is a state, not a failure; the error says what is missing, where, and what the remedy
/// is.
pub(crate) fn candidates(config: &RaplConfig) -> Result<Vec<Candidate>, Error> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut missing: Vec<(&str, Unavailable)> = Vec::new();
    let selected = |interface: &Interface| *interface == config.interface;
    let others = ALL.iter().filter(|interface| !selected(interface));
    for &interface in ALL.iter().filter(|interface| selected(interface)).chain(others) {
        let name = interface.as_str();
        match open(interface, config) {
            Ok(opened) => {
                let origin = candidates.first().map(|first| first.opened.origin());
                if origin.is_none_or(|origin| origin == opened.origin()) {
                    candidates.push(Candidate { interface: name, opened });
                }
            }
            Err(e) if selected(&interface) => return Err(nothing(&[(name, e)])),
            Err(e) => missing.push((name, e)),
        }
    }
    if candidates.is_empty() {
        return Err(nothing(&missing));
    }
    missing.iter().for_each(|(name, e)| tracing::debug!("not compared: {name}: {e}"));
    Ok(candidates)
}

/// Why there is no meter. Where one is there and may not be read, that alone.
fn nothing(missing: &[(&str, Unavailable)]) -> Error {
    if let Some((name, e)) = missing.iter().find(|(_, e)| e.is_denied) {
        return Error::denied(format!("RAPL through {name}: {e}"));
    }
    let missing: Vec<_> = missing.iter().map(|(name, e)| format!("{name}: {e}")).collect();
    Error::gone(format!("no RAPL meter. {}", missing.join(". ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_rapl_simulator::{Registers, Tree, Zone, cpus};

    fn config(root: &Path, interface: Interface) -> RaplConfig {
        let (sysfs_root, dev_root) = (root.to_str().unwrap().to_owned(), root.join("dev"));
        let dev_root = dev_root.to_str().unwrap().to_owned();
        RaplConfig { interface, sysfs_root, dev_root, ..RaplConfig::default() }
    }

    #[test]
    fn an_empty_tree_has_no_usable_interface_but_remedies() {
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
        assert!(seen.msr.reason.contains("modalias names no such processor"), "{}", seen.msr.reason);
    }

    #[test]
    fn usable_interfaces_are_listed_with_their_domains_and_origin() {
        let root = tempfile::tempdir().unwrap();
        Tree::create(root.path(), vec![Zone::new("intel-rapl:0", "package-0", 1.0)]).unwrap();
        let seen = serde_json::to_value(probe(&config(root.path(), Interface::Auto))).unwrap();
        assert_eq!(seen["powercap"]["domains"], serde_json::json!(["package-0"]));
        assert_eq!(seen["powercap"]["origin"], "simulated");
        assert_eq!(seen["perf"]["domains"], serde_json::json!([]));
    }

    #[test]
    fn the_selected_interface_comes_first_and_the_others_follow_for_comparison() {
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
            let candidates = candidates(&config(root.path(), interface)).unwrap();
            let names: Vec<_> = candidates.iter().map(|candidate| candidate.interface).collect();
            assert_eq!(names, expected, "{interface:?}");
        }
    }

    #[test]
    fn without_any_interface_the_error_names_paths_and_remedies() {
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
            let error = candidates(&config(root.path(), interface)).err().unwrap();
            assert_eq!(error.kind(), wattrace_api::ErrorKind::Gone);
            for part in expected {
                assert!(error.to_string().contains(part), "{interface:?}: {error}");
            }
        }
    }

    #[test]
    fn many_cores_are_summarised_by_their_number() {
        let domains = |cores: u32| {
            let cores = (0..cores).map(|n| format!("core-cpu-{n}"));
            summary(&std::iter::once("package-0".to_owned()).chain(cores).collect::<Vec<_>>())
        };
        assert_eq!(
            [domains(0), domains(1), domains(99)],
            ["package-0", "package-0, core-cpu-0", "package-0, 99 cores"]
        );
    }
}
