//! Remembers what was decided about each series. Deciding may be expensive (globs, attributes, opening
//! another series); a point then costs one array lookup.

use std::sync::Arc;

use wattrace_api::{Consumer, Registry, Series, SeriesId, SeriesMap};

/// One decision per series, made when its first point arrives. A decision that depends on attributes that an
/// exec may change is made again after the change.
#[derive(Debug)]
pub struct Decisions<T> {
    registry: Arc<Registry>,
    may_change: bool,
    slots: SeriesMap<Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    decision: T,
    /// The consumer whose attributes the decision depends on, and their revision then.
    watched: Option<Box<(Arc<Consumer>, u64)>>,
}

impl<T> Slot<T> {
    fn is_stale(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| watched.0.revision() != watched.1)
    }
}

impl<T> Decisions<T> {
    /// No decisions yet. `may_change`: they depend on the consumers' attributes
    /// ([`Selector::may_change`](crate::Selector::may_change)).
    pub fn new(registry: Arc<Registry>, may_change: bool) -> Self {
        Self { registry, may_change, slots: SeriesMap::default() }
    }

    /// The decision about `id`. `decide` makes it from the series and the previous decision, if there was
    /// one. `None`: the registry does not know the series.
    #[inline]
    pub fn of(&mut self, id: SeriesId, decide: impl FnOnce(&Arc<Series>, Option<T>) -> T) -> Option<&mut T> {
        if self.slots.get(id).is_none_or(Slot::is_stale) {
            self.decide(id, decide)?;
        }
        self.slots.get_mut(id).map(|slot| &mut slot.decision)
    }

    #[cold]
    fn decide(&mut self, id: SeriesId, decide: impl FnOnce(&Arc<Series>, Option<T>) -> T) -> Option<()> {
        let series = self.registry.get(id)?;
        let watched = series.consumer.as_ref().filter(|_| self.may_change);
        // The revision is read first: a change during `decide` then causes one decision too many, not one too
        // few.
        let watched = watched.map(|consumer| Box::new((consumer.clone(), consumer.revision())));
        let before = self.slots.remove(id).map(|slot| slot.decision);
        let decision = decide(&series, before);
        self.slots.insert(id, Slot { decision, watched });
        Some(())
    }

    /// The decision about `id`, if there is one.
    #[inline]
    pub fn get(&self, id: SeriesId) -> Option<&T> {
        self.slots.get(id).map(|slot| &slot.decision)
    }

    /// The decision about `id`, if there is one, to change it.
    #[inline]
    pub fn get_mut(&mut self, id: SeriesId) -> Option<&mut T> {
        self.slots.get_mut(id).map(|slot| &mut slot.decision)
    }

    /// Removes the decision about `id`, which has ended, and returns it.
    pub fn remove(&mut self, id: SeriesId) -> Option<T> {
        self.slots.remove(id).map(|slot| slot.decision)
    }

    /// All decisions, to change them, in the order of ids.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().map(|(_, slot)| &mut slot.decision)
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::Attribute;

    use super::*;
    use wattrace_transform_testing::Fixture;

    #[test]
    fn a_series_is_decided_once_and_again_after_an_exec_if_decisions_may_change() {
        for may_change in [false, true] {
            let fixture = Fixture::new();
            let bash = fixture.process(7, "bash");
            let id = fixture.energy(Some(&bash));
            let mut decisions = Decisions::new(fixture.rig.registry.clone(), may_change);
            let mut made = 0;
            let mut decide = |decisions: &mut Decisions<usize>| {
                *decisions
                    .of(id, |_, before| {
                        made += 1;
                        before.unwrap_or(0) + 1
                    })
                    .unwrap()
            };
            assert_eq!([decide(&mut decisions), decide(&mut decisions)], [1, 1]);
            bash.update(vec![Attribute::new("process.executable.name", "make")]);
            let after = if may_change { 2 } else { 1 };
            assert_eq!([decide(&mut decisions), decide(&mut decisions)], [after, after]);
            assert_eq!(decisions.remove(id), Some(after));
            assert_eq!(decide(&mut decisions), 1, "a removed decision is made again");
            assert_eq!(made, after + 1);
        }
    }
}
