//! Which consumers have an effect of their own: each of these has a place. `code_costs.rs` decides who gets
//! one, and learns the effects.

use super::constants::KEPT_CONSUMERS;
use super::predicted::{Own, OwnCodes, ran_later};
use crate::code::Code;

/// The places.
#[derive(Clone, Debug, Default)]
pub(super) struct OwnPlaces {
    places: [Place; KEPT_CONSUMERS],
    /// The kind of code that the consumer at each place ran last.
    codes: OwnCodes,
    /// By a consumer's slot, its place.
    own: Vec<Option<Own>>,
    /// How many places are not free.
    used: usize,
}

/// A place for a consumer's own effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    #[default]
    Free,
    /// By the consumer in this slot.
    Taken(usize),
    /// The consumer has ended. The mean of the last seconds still holds what it drew.
    Ended,
}

impl OwnPlaces {
    /// What is at a place.
    pub(super) fn at(&self, place: usize) -> Place {
        self.places[place]
    }

    /// The place of the consumer in `slot`, if it has one.
    pub(super) fn of(&self, slot: usize) -> Option<Own> {
        self.own.get(slot).copied().flatten()
    }

    /// The first free place. Asked for each consumer without one in each window.
    pub(super) fn first_free(&self) -> Option<usize> {
        let is_free = |place: &Place| *place == Place::Free;
        if self.used < KEPT_CONSUMERS { self.places.iter().position(is_free) } else { None }
    }

    /// The places that are not free.
    pub(super) fn used(&self) -> impl Iterator<Item = usize> {
        (0..KEPT_CONSUMERS).filter(|&place| self.places[place] != Place::Free)
    }

    /// The kind of code that the consumer at a place ran last; `None` before it ran there.
    pub(super) fn code(&self, place: usize) -> Option<Code> {
        self.codes[place]
    }

    /// The consumers at the places where there is a code ran it.
    pub(super) fn ran(&mut self, codes: &OwnCodes) {
        ran_later(&mut self.codes, codes);
    }

    /// The consumer in `slot` has ended: another may get its number.
    pub(super) fn end_consumer(&mut self, slot: usize) {
        if let Some(own) = self.own.get_mut(slot).and_then(Option::take) {
            self.places[own.place()] = Place::Ended;
        }
    }

    /// Nobody has `place` any more.
    pub(super) fn free(&mut self, place: usize) {
        self.codes[place] = None;
        match std::mem::take(&mut self.places[place]) {
            Place::Free => return,
            Place::Taken(slot) => self.own[slot] = None,
            Place::Ended => {}
        }
        self.used -= 1;
    }

    /// Gives a free `place` to the consumer in `slot`.
    pub(super) fn give(&mut self, place: usize, slot: usize) -> Own {
        if self.own.len() <= slot {
            self.own.resize(slot + 1, None);
        }
        let own = Own::new(place);
        self.own[slot] = Some(own);
        self.places[place] = Place::Taken(slot);
        self.used += 1;
        own
    }
}
