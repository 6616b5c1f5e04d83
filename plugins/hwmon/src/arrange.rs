//! Which of the channels found are metered, under which names: the user's wishes, equal names told apart, and
//! claims that contradict each other withdrawn. Pure but for asking on which file system the files lie.

use std::collections::HashSet;

use wattrace_api::{Follows, Origin, Resource, metric};
use wattrace_meter::{Subject, sysfs};

use crate::config::Wishes;
use crate::find::{Files, Found};
use crate::meaning::{Meaning, meaning};

/// A channel, and what it meters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Meter {
    pub(crate) subject: Subject,
    pub(crate) files: Files,
}

/// Says what each of `found` meters. `packages` are the kernel's numbers of CPU packages; `metered`: whether
/// something better meters them already.
pub(crate) fn arrange(found: Vec<Found>, wishes: &Wishes, packages: &[u32], metered: bool) -> Vec<Meter> {
    let whole =
        |f: &&Found| f.driver == "power_meter" && !f.part && meaning(&f.driver, &f.label) == Meaning::Host;
    // Of several, none is known to be the machine's.
    let one_meter = found.iter().filter(whole).count() == 1;
    let mut taken = HashSet::new();
    let mut meters = Vec::new();
    for Found { driver, label, channel, files, part, .. } in found {
        let mut meaning = meaning(&driver, &label);
        if driver == "amd_energy" && (!wishes.amd_energy || metered || meaning == Meaning::Unknown) {
            continue;
        }
        if driver == "power_meter" && meaning == Meaning::Host && (part || !one_meter) {
            meaning = Meaning::Unknown;
        }
        let plain = meaning.name(&driver, &label, &channel);
        let mut name = plain.clone();
        // What is told apart by a number may have the name of another.
        for nth in 1.. {
            if taken.insert(name.clone()) {
                break;
            }
            name = format!("{plain}-{nth}");
        }
        if wishes.exclude.is_match(&name) {
            continue;
        }
        let origin = sysfs::origin(files.first());
        meters.push(Meter { subject: wished(meaning, &name, wishes, packages, origin), files });
    }
    meters
}

/// The subject of the channel `name`, with the user's word above what is known.
fn wished(meaning: Meaning, name: &str, wishes: &Wishes, packages: &[u32], origin: Origin) -> Subject {
    let mut subject = meaning.subject(name, packages, origin);
    if wishes.host.is_match(name) {
        (subject.metric, subject.resource) = (metric::HW_HOST_ENERGY, Resource::HOST);
        (subject.domain.follows, subject.domain.within) = (Follows::Cpus, None);
    }
    if wishes.in_totals.is_match(name) {
        subject.domain.within = None;
    }
    if wishes.follow_cpus.is_match(name) {
        subject.domain.follows = Follows::Cpus;
    }
    subject
}
