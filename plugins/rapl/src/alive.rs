//! Counters that are shown and count nothing. A virtual machine shows the whole host's (psys) for its
//! processor's name, without the register behind it, and so do boards whose firmware does not feed it: each
//! reading is the same. [`crate::probe`] has them left out, so that no 0 J are told as measured, and what
//! does count, or an estimate, takes their place.

use std::thread::sleep;
use std::time::{Duration, Instant};

use wattrace_api::Origin;

use crate::counter::Counter;
use crate::domain::Subject;
use crate::meter::{Fault, Group, Opened, Reader, Reading};

/// A counter of what always draws power has moved by then: a hundred refreshes of the hardware.
const PATIENCE: Duration = Duration::from_millis(100);
/// About as often as the hardware refreshes.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Whether a counter moves by itself, whatever the machine does. Of a stand-in nobody knows.
fn always_moves((subject, _): &(Subject, Counter)) -> bool {
    subject.never_rests && subject.domain.origin == Origin::Measured
}

/// Waits until all counters have moved that always do, but not for long; takes those out that have not.
/// Returns their names.
pub(crate) fn take_out_the_dead(opened: &mut Opened) -> Vec<String> {
    let mut watched: Vec<_> = std::mem::take(&mut opened.groups).into_iter().map(Watched::begin).collect();
    let deadline = Instant::now() + PATIENCE;
    while watched.iter().any(|watched| !watched.still.is_empty()) && Instant::now() < deadline {
        sleep(LOOK_AGAIN);
        watched.iter_mut().for_each(Watched::look);
    }
    let mut dead = Vec::new();
    for watched in watched {
        dead.extend(watched.dead());
        opened.groups.extend(watched.alive());
    }
    dead
}

/// A group, and which of its counters have not moved yet though they always do.
struct Watched {
    group: Group,
    first: Vec<u64>,
    still: Vec<usize>,
}

impl Watched {
    fn begin(mut group: Group) -> Self {
        let mut still: Vec<_> =
            (0..group.counters.len()).filter(|&n| always_moves(&group.counters[n])).collect();
        let mut first = vec![0; group.counters.len()];
        // What can't be read now is for the source to complain of.
        if !still.is_empty() && group.reader.read(&mut first).is_err() {
            still.clear();
        }
        Self { group, first, still }
    }

    fn look(&mut self) {
        if self.still.is_empty() {
            return;
        }
        let mut now = self.first.clone();
        match self.group.reader.read(&mut now) {
            Ok(_) => self.still.retain(|&n| now[n] == self.first[n]),
            Err(_) => self.still.clear(),
        }
    }

    fn dead(&self) -> impl Iterator<Item = String> {
        self.still.iter().map(|&n| self.group.counters[n].0.domain.name.clone())
    }

    /// The group without its dead counters, if any is left.
    fn alive(self) -> Option<Group> {
        let Self { mut group, first, still } = self;
        if still.is_empty() {
            return Some(group);
        }
        let keep: Vec<usize> = (0..first.len()).filter(|n| !still.contains(n)).collect();
        let mut at = 0..first.len();
        group.counters.retain(|_| at.next().is_some_and(|n| keep.contains(&n)));
        let reader = Box::new(Sieve { inner: group.reader, all: first, keep });
        (!group.counters.is_empty()).then_some(Group { reader, counters: group.counters })
    }
}

/// Reads a group, and passes on some of its counters.
struct Sieve {
    inner: Box<dyn Reader>,
    all: Vec<u64>,
    keep: Vec<usize>,
}

impl Reader for Sieve {
    fn read(&mut self, raw: &mut [u64]) -> Result<Reading, Fault> {
        let reading = self.inner.read(&mut self.all)?;
        raw.iter_mut().zip(&self.keep).for_each(|(raw, &n)| *raw = self.all[n]);
        Ok(reading)
    }

    fn doubt(&mut self) -> bool {
        self.inner.doubt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::scale::Scale;
    use crate::domain::{Part, Place};

    /// Counters that grow by so much at each reading.
    struct Growing(Vec<u64>, u64);

    impl Reader for Growing {
        fn read(&mut self, raw: &mut [u64]) -> Result<Reading, Fault> {
            self.1 += 1;
            raw.iter_mut().zip(&self.0).for_each(|(raw, step)| *raw = 7 + step * self.1);
            Ok(Reading::Continued)
        }
    }

    fn opened(origin: Origin, steps: &[u64], parts: &[Part]) -> Opened {
        let place = Some(Place { package: 0, die: None });
        let counter = |part: &Part| {
            let subject = Subject::new(part.domain_name(place), part, place, origin);
            (subject, Counter::of_counts(Scale::MICROJOULE))
        };
        let reader = Box::new(Growing(steps.to_vec(), 0));
        let groups = vec![Group { reader, counters: parts.iter().map(counter).collect() }];
        Opened { groups, ..Opened::default() }
    }

    fn names(opened: &Opened) -> Vec<&str> {
        opened.subjects().map(|subject| &*subject.domain.name).collect()
    }

    #[test]
    fn what_always_draws_power_and_stands_still_is_taken_out_and_the_others_keep_their_numbers() {
        let parts = [Part::Dram, Part::Psys, Part::Package, Part::Core];
        let mut opened = opened(Origin::Measured, &[0, 0, 100, 10], &parts);
        assert_eq!(take_out_the_dead(&mut opened), ["psys"]);
        assert_eq!(names(&opened), ["dram-0", "package-0", "core-0"]);
        let mut raw = [0; 3];
        opened.groups[0].reader.read(&mut raw).unwrap();
        assert_eq!((raw[0], raw[1] % 100, raw[2] % 10), (7, 7, 7));
        assert_eq!((raw[1] - 7) / 100, (raw[2] - 7) / 10, "each is read at its own place");
    }

    #[test]
    fn one_that_is_dead_leaves_the_others_their_time() {
        let mut both = opened(Origin::Measured, &[0], &[Part::Psys]);
        both.groups.extend(opened(Origin::Measured, &[1], &[Part::Package]).groups);
        assert_eq!(
            (take_out_the_dead(&mut both), names(&both)),
            (vec!["psys".to_owned()], vec!["package-0"])
        );
    }

    #[test]
    fn a_group_of_dead_counters_is_none_and_a_stand_in_may_stand_still() {
        let mut dead = opened(Origin::Measured, &[0], &[Part::Psys]);
        assert_eq!((take_out_the_dead(&mut dead), names(&dead).len()), (vec!["psys".to_owned()], 0));
        let mut scripted = opened(Origin::Simulated, &[0], &[Part::Psys]);
        assert_eq!((take_out_the_dead(&mut scripted), names(&scripted)), (vec![], vec!["psys"]));
        let mut resting = opened(Origin::Measured, &[0, 1], &[Part::Uncore, Part::Package]);
        assert_eq!((take_out_the_dead(&mut resting), names(&resting).len()), (vec![], 2));
    }
}
