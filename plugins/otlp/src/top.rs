//! Which consumers are exported one by one, and the books that keep every sum right while that changes. Pure: it knows
//! neither OTLP nor series; `table` drives it.
//!
//! A counter's [`Account`] is cut at the moments when its consumer changes streams: what was used before the cut stays
//! where it was reported, what comes after goes elsewhere. So each step is in exactly one stream, and the sum over all
//! streams ever exported is the sum of the true values.

use std::collections::HashMap;

use wattrace_api::{Identity, Timestamp};

/// A value, and how much of it other streams have already reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    cumulative: bool,
    value: u64,
    time: Timestamp,
    settled: u64,
    since: Timestamp,
}

/// What an account held between two cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Steps of a counter, or a gauge's bits.
    pub(crate) value: u64,
    /// When it stood at zero.
    pub(crate) since: Timestamp,
    /// When it stood at `value`.
    pub(crate) time: Timestamp,
}

impl Account {
    /// One that stands at zero at `start`. Only a `cumulative` value can be cut into parts.
    pub(crate) fn new(cumulative: bool, start: Timestamp) -> Self {
        Self { cumulative, value: 0, time: start, settled: 0, since: start }
    }

    /// Takes a newer value.
    pub(crate) fn set(&mut self, value: u64, time: Timestamp) {
        (self.value, self.time) = (value, time);
    }

    /// All of it, settled or not.
    pub(crate) fn total(&self) -> u64 {
        self.value
    }

    /// What has come since the last cut.
    pub(crate) fn open(&self) -> Cut {
        Cut { value: self.value.saturating_sub(self.settled), since: self.since, time: self.time }
    }

    /// The same, and begins anew from here.
    pub(crate) fn cut(&mut self) -> Cut {
        let cut = self.open();
        if self.cumulative {
            (self.settled, self.since) = (self.value, self.time);
        }
        cut
    }

    /// Adds what was cut from another account of the same quantity.
    pub(crate) fn add(&mut self, cut: Cut) {
        self.value = self.value.saturating_add(cut.value);
        self.time = self.time.max(cut.time);
    }

    /// Moves the start back to `start`, if it is later.
    pub(crate) fn reach_back(&mut self, start: Timestamp) {
        self.since = self.since.min(start);
    }
}

/// How heavy a consumer is: by its energy over all domains (those that lie within others count again, for everybody
/// alike), and by its CPU time where there is no energy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Weight {
    pub(crate) energy: u64,
    pub(crate) cpu_time: u64,
}

impl Weight {
    /// Whether it is worth a change of streams: more than double, so that neighbours do not swap to and fro.
    fn outweighs(self, other: Self) -> bool {
        if self.energy.max(other.energy) > 0 {
            self.energy / 2 > other.energy
        } else {
            self.cpu_time / 2 > other.cpu_time
        }
    }
}

/// A consumer's number in the ranking, valid until its last series leaves.
pub(crate) type Member = usize;

/// The ranking: at most `limit` of its members have streams of their own at a time.
///
/// A member keeps its stream until it leaves or until one more than twice as heavy waits. Without the latter, the first
/// `limit` processes after boot would hold their places for ever, however little they use.
#[derive(Debug)]
pub(crate) struct Top {
    limit: usize,
    members: Vec<Option<Entry>>,
    free: Vec<Member>,
    by_identity: HashMap<Identity, Member>,
}

#[derive(Debug)]
struct Entry {
    identity: Identity,
    series: usize,
    weight: Weight,
    own: bool,
}

impl Top {
    /// An empty ranking with `limit` places.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, members: Vec::new(), free: Vec::new(), by_identity: HashMap::new() }
    }

    /// A series of `identity` joins; the same identity has one place however many series it has.
    pub(crate) fn join(&mut self, identity: &Identity) -> Member {
        if let Some(&member) = self.by_identity.get(identity) {
            if let Some(entry) = &mut self.members[member] {
                entry.series += 1;
            }
            return member;
        }
        let entry = Entry { identity: identity.clone(), series: 1, weight: Weight::default(), own: false };
        let member = match self.free.pop() {
            Some(member) => {
                self.members[member] = Some(entry);
                member
            }
            None => {
                self.members.push(Some(entry));
                self.members.len() - 1
            }
        };
        self.by_identity.insert(identity.clone(), member);
        member
    }

    /// A series that joined as `member` leaves; with the last one, its place is free.
    pub(crate) fn leave(&mut self, member: Member) {
        let Some(entry) = &mut self.members[member] else { return };
        entry.series -= 1;
        if entry.series == 0 {
            self.by_identity.remove(&entry.identity);
            self.members[member] = None;
            self.free.push(member);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_identity.len()
    }

    /// Whether `member` has streams of its own.
    pub(crate) fn owns(&self, member: Member) -> bool {
        self.members[member].as_ref().is_some_and(|entry| entry.own)
    }

    /// Sets all weights to zero, for [`Top::weigh`] to fill anew.
    pub(crate) fn unweigh(&mut self) {
        self.members.iter_mut().flatten().for_each(|entry| entry.weight = Weight::default());
    }

    /// Adds to `member`'s weight.
    pub(crate) fn weigh(&mut self, member: Member, weight: Weight) {
        if let Some(entry) = &mut self.members[member] {
            entry.weight.energy = entry.weight.energy.saturating_add(weight.energy);
            entry.weight.cpu_time = entry.weight.cpu_time.saturating_add(weight.cpu_time);
        }
    }

    /// Gives the places to those who deserve them by their weights.
    pub(crate) fn rank(&mut self) {
        let (mut own, mut waiting): (Vec<_>, Vec<_>) =
            self.members.iter_mut().flatten().partition(|entry| entry.own);
        waiting.retain(|entry| entry.weight > Weight::default());
        // The identity decides between equals, so that a run can be repeated.
        waiting.sort_unstable_by(|a, b| {
            b.weight.cmp(&a.weight).then_with(|| key(&a.identity).cmp(&key(&b.identity)))
        });
        own.sort_unstable_by_key(|entry| entry.weight);
        let free = self.limit.saturating_sub(own.len());
        let mut waiting = waiting.into_iter();
        waiting.by_ref().take(free).for_each(|entry| entry.own = true);
        for (weak, strong) in own.into_iter().zip(waiting) {
            if !strong.weight.outweighs(weak.weight) {
                break;
            }
            (weak.own, strong.own) = (false, true);
        }
    }
}

fn key(identity: &Identity) -> (u64, &str) {
    (identity.start_unix_nano, &identity.id)
}

#[cfg(test)]
mod tests {
    use wattrace_api::ConsumerKind;

    use super::*;

    fn process(pid: u64) -> Identity {
        Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid }
    }

    fn ranked(top: &mut Top, weights: &[(Member, u64)]) -> Vec<Member> {
        top.unweigh();
        for &(member, energy) in weights {
            top.weigh(member, Weight { energy, cpu_time: 0 });
        }
        top.rank();
        weights.iter().map(|w| w.0).filter(|&m| top.owns(m)).collect()
    }

    #[test]
    fn the_heaviest_get_the_places_and_the_weightless_none() {
        let mut top = Top::new(2);
        let m: Vec<_> = (0..4).map(|pid| top.join(&process(pid))).collect();
        assert_eq!(ranked(&mut top, &[(m[0], 0), (m[1], 5), (m[2], 0), (m[3], 0)]), [m[1]]);
        assert_eq!(ranked(&mut top, &[(m[0], 3), (m[1], 5), (m[2], 7), (m[3], 1)]), [m[1], m[2]]);
    }

    #[test]
    fn only_more_than_double_the_weight_takes_a_place_from_another() {
        let mut top = Top::new(2);
        let m: Vec<_> = (0..4).map(|pid| top.join(&process(pid))).collect();
        assert_eq!(ranked(&mut top, &[(m[0], 10), (m[1], 20), (m[2], 1), (m[3], 1)]), [m[0], m[1]]);
        assert_eq!(ranked(&mut top, &[(m[0], 10), (m[1], 20), (m[2], 20), (m[3], 19)]), [m[0], m[1]]);
        assert_eq!(ranked(&mut top, &[(m[0], 10), (m[1], 20), (m[2], 22), (m[3], 39)]), [m[1], m[3]]);
    }

    #[test]
    fn a_place_is_free_when_the_last_series_of_its_owner_has_left() {
        let mut top = Top::new(1);
        let a = top.join(&process(1));
        assert_eq!(top.join(&process(1)), a);
        let b = top.join(&process(2));
        assert_eq!(ranked(&mut top, &[(a, 9), (b, 8)]), [a]);
        top.leave(a);
        assert_eq!(ranked(&mut top, &[(a, 9), (b, 8)]), [a]);
        top.leave(a);
        assert_eq!(ranked(&mut top, &[(b, 8)]), [b]);
        assert_eq!(top.join(&process(3)), a, "a number is used again");
        assert!(!top.owns(a));
    }

    #[test]
    fn without_energy_cpu_time_decides() {
        let mut top = Top::new(1);
        let (a, b) = (top.join(&process(1)), top.join(&process(2)));
        top.weigh(a, Weight { energy: 0, cpu_time: 5 });
        top.weigh(b, Weight { energy: 0, cpu_time: 6 });
        top.rank();
        assert!(top.owns(b) && !top.owns(a));
        top.weigh(a, Weight { energy: 1, cpu_time: 0 });
        top.rank();
        assert!(top.owns(b), "nothing is more than double of anything yet");
        top.weigh(a, Weight { energy: 1, cpu_time: 0 });
        top.rank();
        assert!(top.owns(a) && !top.owns(b));
    }

    #[test]
    fn cuts_add_up_to_the_value_and_join_without_gap() {
        let at = Timestamp;
        let mut account = Account::new(true, at(10));
        account.set(5, at(20));
        assert_eq!(account.cut(), Cut { value: 5, since: at(10), time: at(20) });
        account.set(12, at(30));
        assert_eq!(account.open(), Cut { value: 7, since: at(20), time: at(30) });
        let mut sum = Account::new(true, at(40));
        sum.reach_back(at(20));
        sum.add(account.cut());
        assert_eq!(sum.open(), Cut { value: 7, since: at(20), time: at(40) });
        assert_eq!((account.open().value, account.total()), (0, 12));
    }

    #[test]
    fn a_gauge_is_never_cut() {
        let mut account = Account::new(false, Timestamp(0));
        account.set(7, Timestamp(1));
        assert_eq!(account.cut().value, 7);
        assert_eq!(account.open().value, 7);
    }
}
