//! Finds counters that the kernel shows but that nothing feeds. A virtual machine shows a counter of the host
//! (psys) because of its processor's name, without the register behind it, and so do boards whose firmware
//! does not feed it: each reading is the same. [`crate::probe`] leaves them out, so that 0 J is not reported
//! as measured, and another meter or an estimate takes their place.

use std::thread::sleep;
use std::time::{Duration, Instant};

use wattrace_api::Origin;
use wattrace_meter::sysfs::Fault;
use wattrace_meter::{Counter, Subject};

use crate::meter::{Continuity, CounterGroup, Meter, OpenInterface};
use crate::profile::always_draws_power;

/// The counter of a part that always draws power moves within this time: a hundred refreshes of the hardware.
const TIMEOUT: Duration = Duration::from_millis(100);
/// About as often as the hardware refreshes.
const READ_INTERVAL: Duration = Duration::from_millis(1);

/// Whether a counter must move. A simulated one may stand still.
fn must_move((subject, _): &(Subject, Counter)) -> bool {
    always_draws_power(subject) && subject.domain.origin == Origin::Measured
}

/// Waits until all counters that must move have moved, and removes those that have not when the time is over.
/// Returns the names of their domains.
pub(crate) fn remove_stuck_counters(interface: &mut OpenInterface) -> Vec<String> {
    let groups = std::mem::take(&mut interface.groups);
    let mut watched: Vec<_> = groups.into_iter().map(WatchedGroup::new).collect();
    let deadline = Instant::now() + TIMEOUT;
    while watched.iter().any(|watched| !watched.still.is_empty()) && Instant::now() < deadline {
        sleep(READ_INTERVAL);
        watched.iter_mut().for_each(WatchedGroup::read);
    }
    let mut stuck = Vec::new();
    for watched in watched {
        stuck.extend(watched.stuck_domains());
        interface.groups.extend(watched.into_moving());
    }
    stuck
}

/// A group, and which of its counters must move and have not moved yet.
struct WatchedGroup {
    group: CounterGroup,
    first: Vec<u64>,
    still: Vec<usize>,
}

impl WatchedGroup {
    fn new(mut group: CounterGroup) -> Self {
        let mut still: Vec<_> =
            (0..group.counters.len()).filter(|&n| must_move(&group.counters[n])).collect();
        let mut first = vec![0; group.counters.len()];
        // The source reports counters that cannot be read.
        if !still.is_empty() && group.meter.read(&mut first).is_err() {
            still.clear();
        }
        Self { group, first, still }
    }

    fn read(&mut self) {
        if self.still.is_empty() {
            return;
        }
        let mut now = self.first.clone();
        match self.group.meter.read(&mut now) {
            Ok(_) => self.still.retain(|&n| now[n] == self.first[n]),
            Err(_) => self.still.clear(),
        }
    }

    fn stuck_domains(&self) -> impl Iterator<Item = String> {
        self.still.iter().map(|&n| self.group.counters[n].0.domain.name.clone())
    }

    /// The group without its stuck counters; `None` if no counter is left.
    fn into_moving(self) -> Option<CounterGroup> {
        let Self { mut group, first, still } = self;
        if still.is_empty() {
            return Some(group);
        }
        let keep: Vec<usize> = (0..first.len()).filter(|n| !still.contains(n)).collect();
        let mut index = 0..first.len();
        group.counters.retain(|_| index.next().is_some_and(|n| keep.contains(&n)));
        let meter = Box::new(PartialMeter { inner: group.meter, all: first, keep });
        (!group.counters.is_empty()).then_some(CounterGroup { meter, counters: group.counters })
    }
}

/// Reads a meter, and passes on some of its readings.
struct PartialMeter {
    inner: Box<dyn Meter>,
    all: Vec<u64>,
    keep: Vec<usize>,
}

impl Meter for PartialMeter {
    fn read(&mut self, readings: &mut [u64]) -> Result<Continuity, Fault> {
        let continuity = self.inner.read(&mut self.all)?;
        readings.iter_mut().zip(&self.keep).for_each(|(reading, &n)| *reading = self.all[n]);
        Ok(continuity)
    }

    fn close_if_dead(&mut self) -> bool {
        self.inner.close_if_dead()
    }
}

#[cfg(test)]
mod tests {
    use wattrace_meter::{Period, Scale};

    use super::*;
    use crate::domain::{PackageDie, Part, subject};
    use crate::profile;

    /// Counters that grow by these steps at each reading.
    struct GrowingMeter(Vec<u64>, u64);

    impl Meter for GrowingMeter {
        fn read(&mut self, readings: &mut [u64]) -> Result<Continuity, Fault> {
            self.1 += 1;
            readings.iter_mut().zip(&self.0).for_each(|(reading, step)| *reading = 7 + step * self.1);
            Ok(Continuity::Continued)
        }
    }

    fn interface(origin: Origin, steps: &[u64], parts: &[Part]) -> OpenInterface {
        let package_die = Some(PackageDie { package: 0, die: None });
        let counter = |part: &Part| {
            let counter = profile::counter(Scale::MICROJOULE, Period::Unknown);
            (subject(part.domain_name(package_die), part, package_die, origin), counter)
        };
        let meter = Box::new(GrowingMeter(steps.to_vec(), 0));
        let groups = vec![CounterGroup { meter, counters: parts.iter().map(counter).collect() }];
        OpenInterface { groups, ..OpenInterface::default() }
    }

    fn names(interface: &OpenInterface) -> Vec<&str> {
        interface.subjects().map(|subject| &*subject.domain.name).collect()
    }

    #[test]
    fn a_stuck_counter_is_removed_and_the_others_keep_their_readings() {
        let parts = [Part::Dram, Part::Psys, Part::Package, Part::Core];
        let mut interface = interface(Origin::Measured, &[0, 0, 100, 10], &parts);
        assert_eq!(remove_stuck_counters(&mut interface), ["psys"]);
        assert_eq!(names(&interface), ["dram-0", "package-0", "core-0"]);
        let mut readings = [0; 3];
        interface.groups[0].meter.read(&mut readings).unwrap();
        assert_eq!((readings[0], readings[1] % 100, readings[2] % 10), (7, 7, 7));
        assert_eq!((readings[1] - 7) / 100, (readings[2] - 7) / 10, "one reading of each counter");
    }

    #[test]
    fn a_stuck_group_does_not_affect_another_group() {
        let mut both = interface(Origin::Measured, &[0], &[Part::Psys]);
        both.groups.extend(interface(Origin::Measured, &[1], &[Part::Package]).groups);
        assert_eq!(remove_stuck_counters(&mut both), ["psys"]);
        assert_eq!(names(&both), ["package-0"]);
    }

    #[test]
    fn simulated_counters_and_parts_that_may_rest_are_never_stuck() {
        let mut stuck = interface(Origin::Measured, &[0], &[Part::Psys]);
        assert_eq!((remove_stuck_counters(&mut stuck), stuck.groups.len()), (vec!["psys".to_owned()], 0));
        let mut simulated = interface(Origin::Simulated, &[0], &[Part::Psys]);
        assert_eq!((remove_stuck_counters(&mut simulated), names(&simulated)), (vec![], vec!["psys"]));
        let mut resting = interface(Origin::Measured, &[0, 1], &[Part::Uncore, Part::Package]);
        assert_eq!((remove_stuck_counters(&mut resting), names(&resting).len()), (vec![], 2));
    }
}
