//! From the kernel's counters to what each group and each package has used. Pure: the values of all counters
//! at one time go in.
//!
//! The counter of a control group is a sum over groups that come and go: it jumps when a monitoring group is
//! made, whose hardware counter has a past, and falls when one is removed. So what the control group's own
//! tasks have used is computed first, and every group is followed by itself. A package is the sum of the
//! growth of all.

use std::collections::HashMap;
use std::time::Duration;

use wattrace_meter::{Counter, Period, Scale, Step};

/// No package draws more.
const MAX_WATTS: u64 = 10_000;
/// A difference of sums that are not read at one instant may fall by so many microjoules.
const JITTER: u64 = 1_000;

/// What tells a group from all others: its name and inode.
pub(crate) type GroupId = (String, u64);

/// A value of a group's counter for one package.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) group: GroupId,
    /// The control group whose sum includes it.
    pub(crate) parent: Option<GroupId>,
    pub(crate) package: u32,
    /// Microjoules; `None`: it could not be read.
    pub(crate) microjoules: Option<u64>,
}

/// What is known of all groups and packages.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// What the tasks of a group have used, without those of its monitoring groups.
    own: HashMap<(GroupId, u32), Own>,
    /// Microjoules of each package, and of each group with its monitoring groups.
    packages: HashMap<u32, u64>,
    groups: HashMap<(GroupId, u32), u64>,
}

#[derive(Debug)]
struct Own {
    counter: Counter,
    last: u64,
    /// Time since its last reading.
    elapsed: Duration,
    seen: bool,
}

/// Irregularities of one round, by package.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Irregular {
    /// A counter ran backwards, or grew by more than a package can use.
    pub(crate) resets: Vec<u32>,
    /// A counter could not be read: its next reading covers this time too.
    pub(crate) unread: Vec<u32>,
}

impl Tally {
    /// Takes the values of all counters, read `elapsed` after the ones before. Groups that are not among them
    /// are forgotten.
    pub(crate) fn take(&mut self, readings: &[Reading], elapsed: Duration) -> Irregular {
        let mut irregular = Irregular::default();
        self.own.values_mut().for_each(|own| {
            own.seen = false;
            own.elapsed += elapsed;
        });
        for reading in readings {
            let package = reading.package;
            self.packages.entry(package).or_default();
            self.groups.entry((reading.group.clone(), package)).or_default();
            match own_microjoules(reading, readings) {
                Some(own) => {
                    let growth = self.grow(reading, own);
                    match growth {
                        Some(growth) => self.add(reading, growth),
                        None => irregular.resets.push(package),
                    }
                }
                None => irregular.unread.push(package),
            }
            if let Some(own) = self.own.get_mut(&(reading.group.clone(), package)) {
                own.seen = true;
            }
        }
        self.own.retain(|_, own| own.seen);
        let Self { own, groups, .. } = self;
        groups.retain(|(group, package), _| {
            let is_here = |reading: &Reading| reading.group == *group && reading.package == *package;
            own.contains_key(&(group.clone(), *package)) || readings.iter().any(is_here)
        });
        irregular
    }

    /// By how much the group's own tasks have used more; `None`: that is unknown.
    fn grow(&mut self, reading: &Reading, microjoules: u64) -> Option<u64> {
        let own = self.own.entry((reading.group.clone(), reading.package)).or_insert_with(|| Own {
            counter: Counter::new(Scale::MICROJOULE, Period::Unknown, MAX_WATTS),
            last: microjoules,
            elapsed: Duration::ZERO,
            seen: true,
        });
        let is_jitter = microjoules < own.last && own.last - microjoules <= JITTER;
        own.last = if is_jitter { own.last } else { microjoules };
        let before = own.counter.microjoules();
        let step = own.counter.take(own.last, std::mem::take(&mut own.elapsed));
        let is_known = !matches!(step, Step::Reset | Step::Jumped);
        is_known.then(|| own.counter.microjoules() - before)
    }

    fn add(&mut self, reading: &Reading, growth: u64) {
        *self.packages.entry(reading.package).or_default() += growth;
        for group in std::iter::once(&reading.group).chain(&reading.parent) {
            *self.groups.entry((group.clone(), reading.package)).or_default() += growth;
        }
    }

    /// Microjoules of a package's cores.
    pub(crate) fn of_package(&self, package: u32) -> u64 {
        self.packages.get(&package).copied().unwrap_or(0)
    }

    /// Microjoules of a group, with its monitoring groups, on a package.
    pub(crate) fn of_group(&self, group: &GroupId, package: u32) -> u64 {
        self.groups.get(&(group.clone(), package)).copied().unwrap_or(0)
    }
}

/// The energy of the group's own tasks: its value without those of its monitoring groups; `None` if one of
/// them could not be read.
fn own_microjoules(reading: &Reading, all: &[Reading]) -> Option<u64> {
    let mut own = reading.microjoules?;
    let below =
        |other: &&Reading| other.package == reading.package && other.parent.as_ref() == Some(&reading.group);
    for other in all.iter().filter(below) {
        own = own.saturating_sub(other.microjoules?);
    }
    Some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const JOULE: u64 = 1_000_000;

    fn id(name: &str) -> GroupId {
        (name.to_owned(), 1)
    }

    /// Readings of package 0: name, parent, joules.
    fn readings(values: &[(&str, Option<&str>, u64)]) -> Vec<Reading> {
        let one = |&(name, parent, joules): &(&str, Option<&str>, u64)| Reading {
            group: id(name),
            parent: parent.map(id),
            package: 0,
            microjoules: Some(joules * JOULE),
        };
        values.iter().map(one).collect()
    }

    #[test]
    fn a_package_is_the_growth_of_all_groups_and_each_joule_counts_once() {
        let mut tally = Tally::default();
        // The root's 100 J include 40 J of /a; web's 50 J are not in it.
        let first = [("", None, 100), ("/a", Some(""), 40), ("web", None, 50)];
        assert_eq!(tally.take(&readings(&first), SECOND), Irregular::default());
        assert_eq!(tally.of_package(0), 0, "energy is counted from here");
        tally.take(&readings(&[("", None, 130), ("/a", Some(""), 60), ("web", None, 55)]), SECOND);
        assert_eq!(tally.of_package(0), 35 * JOULE);
        assert_eq!((tally.of_group(&id("/a"), 0), tally.of_group(&id("web"), 0)), (20 * JOULE, 5 * JOULE));
        assert_eq!(tally.of_group(&id(""), 0), 30 * JOULE);
    }

    #[test]
    fn groups_come_with_a_past_and_go_without_a_reset() {
        let mut tally = Tally::default();
        tally.take(&readings(&[("", None, 100)]), SECOND);
        // The hardware counter of the new group has counted 5,000 J for others, and the root's sum has them.
        tally.take(&readings(&[("", None, 5_110), ("/a", Some(""), 5_000)]), SECOND);
        assert_eq!(tally.of_package(0), 10 * JOULE);
        tally.take(&readings(&[("", None, 5_130), ("/a", Some(""), 5_015)]), SECOND);
        assert_eq!((tally.of_package(0), tally.of_group(&id("/a"), 0)), (30 * JOULE, 15 * JOULE));
        // It is removed, and its sum with it.
        assert_eq!(tally.take(&readings(&[("", None, 118)]), SECOND), Irregular::default());
        assert_eq!((tally.of_package(0), tally.of_group(&id("/a"), 0)), (33 * JOULE, 0));
        // One of the same name is another.
        let mut again = readings(&[("", None, 7_120), ("/a", Some(""), 7_000)]);
        again[1].group.1 = 2;
        tally.take(&again, SECOND);
        assert_eq!(tally.of_package(0), 35 * JOULE);
    }

    #[test]
    fn what_cannot_be_read_is_in_the_next_reading_and_a_reset_adds_nothing() {
        let mut tally = Tally::default();
        let mut all = readings(&[("", None, 100), ("/a", Some(""), 40)]);
        tally.take(&all, SECOND);
        all[1].microjoules = None;
        all[0].microjoules = Some(120 * JOULE);
        assert_eq!(tally.take(&all, SECOND).unread, [0, 0]);
        assert_eq!(tally.of_package(0), 0);
        tally.take(&readings(&[("", None, 140), ("/a", Some(""), 60)]), SECOND);
        assert_eq!(tally.of_package(0), 40 * JOULE);
        let irregular = tally.take(&readings(&[("", None, 61), ("/a", Some(""), 60)]), SECOND);
        assert_eq!((irregular.resets, tally.of_package(0)), (vec![0], 40 * JOULE));
        // Not read at one instant: the root's own tasks seem to have used less.
        let mut late = readings(&[("", None, 61), ("/a", Some(""), 60)]);
        late[1].microjoules = Some(60 * JOULE + 900);
        assert_eq!(tally.take(&late, SECOND), Irregular::default());
        assert_eq!(tally.of_package(0), 40 * JOULE + 900);
    }
}
