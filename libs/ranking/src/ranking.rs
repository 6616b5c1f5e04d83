//! Who is among the heaviest consumers. Pure: no series, no time.
//!
//! A member that owns a place keeps it until it leaves, or until a member more than twice as heavy has none.
//! Without the second rule, the first members after boot would hold their places forever, however little they
//! use. Without the factor, neighbours would swap back and forth, and each swap ends a series and starts
//! another.

use std::collections::HashMap;

use slab::Slab;
use wattrace_api::Identity;

/// How heavy a consumer is. The secondary weight decides where no consumer has a primary one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Weight {
    pub(crate) primary: u64,
    pub(crate) secondary: u64,
}

impl Weight {
    fn plus(self, other: Self) -> Self {
        Self {
            primary: self.primary.saturating_add(other.primary),
            secondary: self.secondary.saturating_add(other.secondary),
        }
    }

    fn half(self) -> Self {
        Self { primary: self.primary / 2, secondary: self.secondary / 2 }
    }

    /// Whether it is more than double of `other`.
    fn outweighs(self, other: Self) -> bool {
        if self.primary.max(other.primary) > 0 {
            self.primary / 2 > other.primary
        } else {
            self.secondary / 2 > other.secondary
        }
    }
}

/// A consumer's number in the ranking, valid until its last series leaves.
pub(crate) type Member = usize;

/// The ranking: at most `places` of its members own a place.
#[derive(Debug)]
pub(crate) struct Ranking {
    places: usize,
    owned: usize,
    /// Places given since the last [`Ranking::fade`].
    given: usize,
    /// Whether a member without a place has gained weight since the last ranking.
    waiting: bool,
    members: Slab<Entry>,
    by_identity: HashMap<Identity, Member>,
}

#[derive(Debug)]
struct Entry {
    identity: Identity,
    series: usize,
    weight: Weight,
    owns: bool,
}

impl Ranking {
    /// An empty ranking.
    pub(crate) fn new(places: usize) -> Self {
        Self { places, owned: 0, given: 0, waiting: false, members: Slab::new(), by_identity: HashMap::new() }
    }

    /// A series of `identity` joins; the same identity is one member however many series it has.
    pub(crate) fn join(&mut self, identity: &Identity) -> Member {
        let member = match self.by_identity.get(identity) {
            Some(&member) => member,
            None => {
                let entry =
                    Entry { identity: identity.clone(), series: 0, weight: Weight::default(), owns: false };
                let member = self.members.insert(entry);
                self.by_identity.insert(identity.clone(), member);
                member
            }
        };
        self.members[member].series += 1;
        member
    }

    /// A series that joined as `member` leaves; with the last one, its place is free.
    pub(crate) fn leave(&mut self, member: Member) {
        let Some(entry) = self.members.get_mut(member) else { return };
        entry.series -= 1;
        if entry.series == 0 {
            let entry = self.members.remove(member);
            self.by_identity.remove(&entry.identity);
            self.owned -= usize::from(entry.owns);
        }
    }

    /// Whether `member` has a place.
    #[inline]
    pub(crate) fn owns(&self, member: Member) -> bool {
        self.members.get(member).is_some_and(|entry| entry.owns)
    }

    /// Adds to `member`'s weight.
    pub(crate) fn add_weight(&mut self, member: Member, weight: Weight) {
        if let Some(entry) = self.members.get_mut(member) {
            entry.weight = entry.weight.plus(weight);
            self.waiting |= weight > Weight::default() && !entry.owns;
        }
    }

    /// Whether there is a free place and a member for it. Between two calls of [`Ranking::fade`] no more
    /// places are given this way than there are: a storm of short processes would otherwise pass through the
    /// places, each with series of its own.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting && self.owned < self.places && self.given < self.places
    }

    /// Assigns the places by the members' weights.
    pub(crate) fn rank(&mut self) {
        let (mut owners, mut waiting): (Vec<_>, Vec<_>) =
            self.members.iter_mut().map(|(_, entry)| entry).partition(|entry| entry.owns);
        waiting.retain(|entry| entry.weight > Weight::default());
        // The identity decides between equals, so that a run can be repeated.
        waiting.sort_unstable_by(|a, b| {
            let (x, y) = (&a.identity, &b.identity);
            let identity = || x.start_unix_nano.cmp(&y.start_unix_nano).then_with(|| x.id.cmp(&y.id));
            b.weight.cmp(&a.weight).then_with(identity)
        });
        owners.sort_unstable_by_key(|entry| entry.weight);
        let free = self.places.saturating_sub(owners.len());
        let mut waiting = waiting.into_iter();
        for entry in waiting.by_ref().take(free) {
            entry.owns = true;
            self.owned += 1;
            self.given += 1;
        }
        for (weak, strong) in owners.into_iter().zip(waiting) {
            if !strong.weight.outweighs(weak.weight) {
                break;
            }
            (weak.owns, strong.owns) = (false, true);
            self.given += 1;
        }
        self.waiting = false;
    }

    /// Halves all weights, so that the past counts less and less.
    pub(crate) fn fade(&mut self) {
        self.given = 0;
        self.members.iter_mut().for_each(|(_, entry)| entry.weight = entry.weight.half());
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::ConsumerKind;

    use super::*;

    fn process(pid: u64) -> Identity {
        Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid }
    }

    fn primary(primary: u64) -> Weight {
        Weight { primary, secondary: 0 }
    }

    /// The members that own a place once each has the weight given here and no other.
    fn ranked(ranking: &mut Ranking, weights: &[(Member, u64)]) -> Vec<Member> {
        (0..64).for_each(|_| ranking.fade());
        weights.iter().for_each(|&(member, weight)| ranking.add_weight(member, primary(weight)));
        ranking.rank();
        weights.iter().map(|w| w.0).filter(|&m| ranking.owns(m)).collect()
    }

    #[test]
    fn the_heaviest_get_the_places_and_members_without_weight_get_none() {
        let mut ranking = Ranking::new(2);
        let m: Vec<_> = (0..4).map(|pid| ranking.join(&process(pid))).collect();
        assert_eq!(ranked(&mut ranking, &[(m[0], 0), (m[1], 5), (m[2], 0), (m[3], 0)]), [m[1]]);
        assert_eq!(ranked(&mut ranking, &[(m[0], 3), (m[1], 5), (m[2], 7), (m[3], 1)]), [m[1], m[2]]);
    }

    #[test]
    fn only_more_than_double_the_weight_takes_a_place_from_another() {
        let mut ranking = Ranking::new(2);
        let m: Vec<_> = (0..4).map(|pid| ranking.join(&process(pid))).collect();
        assert_eq!(ranked(&mut ranking, &[(m[0], 10), (m[1], 20), (m[2], 1), (m[3], 1)]), [m[0], m[1]]);
        assert_eq!(ranked(&mut ranking, &[(m[0], 10), (m[1], 20), (m[2], 20), (m[3], 19)]), [m[0], m[1]]);
        assert_eq!(ranked(&mut ranking, &[(m[0], 10), (m[1], 20), (m[2], 22), (m[3], 39)]), [m[1], m[3]]);
    }

    #[test]
    fn without_a_primary_weight_the_secondary_decides() {
        let mut ranking = Ranking::new(1);
        let (a, b) = (ranking.join(&process(1)), ranking.join(&process(2)));
        ranking.add_weight(a, Weight { primary: 0, secondary: 5 });
        ranking.add_weight(b, Weight { primary: 0, secondary: 6 });
        ranking.rank();
        assert!(ranking.owns(b) && !ranking.owns(a));
        ranking.add_weight(a, primary(1));
        ranking.rank();
        assert!(ranking.owns(b), "1 is not more than double of 0, rounded down");
        ranking.add_weight(a, primary(1));
        ranking.rank();
        assert!(ranking.owns(a) && !ranking.owns(b));
    }

    #[test]
    fn a_place_is_free_when_the_last_series_of_its_owner_has_left() {
        let mut ranking = Ranking::new(1);
        let a = ranking.join(&process(1));
        assert_eq!(ranking.join(&process(1)), a);
        let b = ranking.join(&process(2));
        assert_eq!(ranked(&mut ranking, &[(a, 9), (b, 8)]), [a]);
        ranking.leave(a);
        assert_eq!(ranked(&mut ranking, &[(a, 9), (b, 8)]), [a]);
        ranking.fade();
        ranking.add_weight(b, primary(1));
        assert!(!ranking.has_room());
        ranking.leave(a);
        assert!(ranking.has_room());
        assert_eq!(ranked(&mut ranking, &[(b, 8)]), [b]);
        assert_eq!(ranking.join(&process(3)), a, "a number is used again");
        assert!(!ranking.owns(a));
    }

    #[test]
    fn between_two_fadings_no_more_places_are_given_than_there_are() {
        let mut ranking = Ranking::new(1);
        let newcomer = |ranking: &mut Ranking, pid| {
            let member = ranking.join(&process(pid));
            ranking.add_weight(member, primary(9));
            if ranking.has_room() {
                ranking.rank();
            }
            let owns = ranking.owns(member);
            ranking.leave(member);
            owns
        };
        assert_eq!([1, 2, 3].map(|pid| newcomer(&mut ranking, pid)), [true, false, false]);
        ranking.fade();
        assert!(newcomer(&mut ranking, 4));
    }
}
