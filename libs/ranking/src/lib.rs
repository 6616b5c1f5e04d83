//! Who is among the heaviest consumers. Pure: it knows neither series nor time. No plugin; the transform
//! `top` and the output `otlp` are made with it.
//!
//! A member keeps its place until it leaves or until one more than twice as heavy waits. Without the latter,
//! the first members after boot would hold their places for ever, however little they use; without the
//! factor, neighbours would swap to and fro, and each swap cuts two series.

use std::collections::HashMap;

use slab::Slab;
use wattrace_api::Identity;

/// How heavy a consumer is.
pub trait Weight: Copy + Default + Ord {
    /// Both together.
    #[must_use]
    fn plus(self, other: Self) -> Self;

    /// Whether it is worth a change of places: more than double.
    fn outweighs(self, other: Self) -> bool;
}

impl Weight for u64 {
    fn plus(self, other: Self) -> Self {
        self.saturating_add(other)
    }

    fn outweighs(self, other: Self) -> bool {
        self / 2 > other
    }
}

/// A consumer's number in the ranking, valid until its last series leaves.
pub type Member = usize;

/// The ranking: at most `places` of its members own one.
#[derive(Debug)]
pub struct Ranking<W> {
    places: usize,
    owned: usize,
    /// Whether somebody without a place has gained weight since the last ranking.
    waiting: bool,
    members: Slab<Entry<W>>,
    by_identity: HashMap<Identity, Member>,
}

#[derive(Debug)]
struct Entry<W> {
    identity: Identity,
    series: usize,
    weight: W,
    owns: bool,
}

impl<W: Weight> Ranking<W> {
    /// An empty ranking.
    pub fn new(places: usize) -> Self {
        Self { places, owned: 0, waiting: false, members: Slab::new(), by_identity: HashMap::new() }
    }

    /// A series of `identity` joins; the same identity is one member however many series it has.
    pub fn join(&mut self, identity: &Identity) -> Member {
        let member = match self.by_identity.get(identity) {
            Some(&member) => member,
            None => {
                let entry =
                    Entry { identity: identity.clone(), series: 0, weight: W::default(), owns: false };
                let member = self.members.insert(entry);
                self.by_identity.insert(identity.clone(), member);
                member
            }
        };
        self.members[member].series += 1;
        member
    }

    /// A series that joined as `member` leaves; with the last one, its place is free.
    pub fn leave(&mut self, member: Member) {
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
    pub fn owns(&self, member: Member) -> bool {
        self.members.get(member).is_some_and(|entry| entry.owns)
    }

    /// Adds to `member`'s weight.
    pub fn weigh(&mut self, member: Member, weight: W) {
        if let Some(entry) = self.members.get_mut(member) {
            entry.weight = entry.weight.plus(weight);
            self.waiting |= weight > W::default() && !entry.owns;
        }
    }

    /// Takes all weights away, for [`Ranking::weigh`] to give anew.
    pub fn unweigh(&mut self) {
        self.members.iter_mut().for_each(|(_, entry)| entry.weight = W::default());
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether there is a free place, and somebody for it.
    pub fn has_room(&self) -> bool {
        self.waiting && self.owned < self.places
    }

    /// Gives the places to those who deserve them by their weights.
    pub fn rank(&mut self) {
        let (mut own, mut waiting): (Vec<_>, Vec<_>) =
            self.members.iter_mut().map(|(_, entry)| entry).partition(|entry| entry.owns);
        waiting.retain(|entry| entry.weight > W::default());
        // The identity decides between equals, so that a run can be repeated.
        waiting.sort_unstable_by(|a, b| {
            let (x, y) = (&a.identity, &b.identity);
            let identity = || x.start_unix_nano.cmp(&y.start_unix_nano).then_with(|| x.id.cmp(&y.id));
            b.weight.cmp(&a.weight).then_with(identity)
        });
        own.sort_unstable_by_key(|entry| entry.weight);
        let free = self.places.saturating_sub(own.len());
        let mut waiting = waiting.into_iter();
        for entry in waiting.by_ref().take(free) {
            entry.owns = true;
            self.owned += 1;
        }
        for (weak, strong) in own.into_iter().zip(waiting) {
            if !strong.weight.outweighs(weak.weight) {
                break;
            }
            (weak.owns, strong.owns) = (false, true);
        }
        self.waiting = false;
    }
}

impl Ranking<u64> {
    /// Halves all weights, so that the past counts ever less.
    pub fn fade(&mut self) {
        self.members.iter_mut().for_each(|(_, entry)| entry.weight /= 2);
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::ConsumerKind;

    use super::*;

    fn process(pid: u64) -> Identity {
        Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid }
    }

    fn ranked(ranking: &mut Ranking<u64>, weights: &[(Member, u64)]) -> Vec<Member> {
        // Enough to forget whatever was before.
        (0..64).for_each(|_| ranking.fade());
        weights.iter().for_each(|&(member, weight)| ranking.weigh(member, weight));
        ranking.rank();
        weights.iter().map(|w| w.0).filter(|&m| ranking.owns(m)).collect()
    }

    #[test]
    fn the_heaviest_get_the_places_and_the_weightless_none() {
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
    fn a_place_is_free_when_the_last_series_of_its_owner_has_left() {
        let mut ranking = Ranking::new(1);
        let a = ranking.join(&process(1));
        assert_eq!(ranking.join(&process(1)), a);
        let b = ranking.join(&process(2));
        assert_eq!(ranked(&mut ranking, &[(a, 9), (b, 8)]), [a]);
        ranking.leave(a);
        assert_eq!(ranked(&mut ranking, &[(a, 9), (b, 8)]), [a]);
        ranking.weigh(b, 1);
        assert!(!ranking.has_room());
        ranking.leave(a);
        assert!(ranking.has_room());
        assert_eq!(ranked(&mut ranking, &[(b, 8)]), [b]);
        assert_eq!(ranking.join(&process(3)), a, "a number is used again");
        assert!(!ranking.owns(a));
    }
}
