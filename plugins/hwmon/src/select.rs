//! Selects the channels to meter, and names them: applies the configuration, numbers equal names, and drops
//! claims that contradict each other. Pure, except that it looks at the file system of each channel.

use std::collections::HashSet;
use std::path::PathBuf;

use wattrace_api::{Follows, Origin, Resource, metric};
use wattrace_meter::names::unique;
use wattrace_meter::{Subject, sysfs};

use crate::classify::{ChannelClass, classify};
use crate::config::ChannelRules;
use crate::discover::{ChannelFiles, FoundChannel};
use crate::known::Part;

/// A channel to meter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SelectedChannel {
    pub(crate) subject: Subject,
    pub(crate) files: ChannelFiles,
    /// Whether RAPL meters the same, where it works.
    pub(crate) second: bool,
}

/// Decides what each of `found` meters. `packages` are the kernel's numbers of CPU packages. `metered`:
/// another plugin meters the packages already, so that second meters of them are left out.
pub(crate) fn select(
    found: Vec<FoundChannel>,
    rules: &ChannelRules,
    packages: &[u32],
    metered: bool,
) -> Vec<SelectedChannel> {
    let whole = |f: &&FoundChannel| {
        f.driver == "power_meter" && !f.is_part && classify(&f.driver, &f.label, 0).part == Part::Host
    };
    // If there are several, none of them is known to meter the whole machine.
    let one_meter = found.iter().filter(whole).count() == 1;
    let mut taken: HashSet<String> = HashSet::new();
    let mut selected = Vec::new();
    let mut chips: Vec<(String, PathBuf)> = Vec::new();
    for FoundChannel { directory, driver, label, channel, files, is_part } in found {
        let chip = (driver.clone(), directory);
        if !chips.contains(&chip) {
            chips.push(chip);
        }
        let nth = chips.iter().filter(|(of, _)| *of == driver).count().saturating_sub(1) as u32;
        let mut class = classify(&driver, &label, nth);
        if class.part == Part::LeftOut || class.second && (!rules.amd_energy || metered) {
            continue;
        }
        if driver == "power_meter" && class.part == Part::Host && (is_part || !one_meter) {
            class = ChannelClass::unknown();
        }
        let name = unique(class.name(&driver, &label, &channel), |name| taken.contains(name));
        taken.insert(name.clone());
        if rules.exclude.is_match(&name) {
            continue;
        }
        let (origin, second) = (sysfs::origin(files.first()), class.second);
        let subject = configured_subject(class, &name, rules, packages, origin);
        selected.push(SelectedChannel { subject, files, second });
    }
    selected
}

/// The subject of the channel `name`. The configuration takes precedence over what is known.
fn configured_subject(
    class: ChannelClass,
    name: &str,
    rules: &ChannelRules,
    packages: &[u32],
    origin: Origin,
) -> Subject {
    let mut subject = class.subject(name, packages, origin);
    if rules.host.is_match(name) {
        (subject.metric, subject.resource) = (metric::HW_HOST_ENERGY, Resource::HOST);
        (subject.domain.follows, subject.domain.within) = (Follows::Cpus, None);
    }
    if rules.in_totals.is_match(name) {
        subject.domain.within = None;
    }
    if rules.follow_cpus.is_match(name) {
        subject.domain.follows = Follows::Cpus;
    }
    subject
}
