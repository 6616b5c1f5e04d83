//! The meters of packages that there are now: while there is one, nothing is estimated.

use std::sync::Arc;

use wattrace_api::events::ResourceAppeared;
use wattrace_api::{Batch, Domain, Origin, Received, Registry, Role, Series, SeriesId, Subscription};

/// The domain of the plugin `guest`: what the host of a virtual machine reports.
const HOST_SHARE: &str = "host-share";

/// Meters come by events, and go with their series.
pub(crate) struct Meters {
    registry: Arc<Registry>,
    appeared: Subscription<ResourceAppeared>,
    open: Vec<(SeriesId, Arc<Series>)>,
    /// Series that have ended and are still in the registry, until all outputs have seen their end.
    over: Vec<(SeriesId, Arc<Series>)>,
}

impl Meters {
    /// Those in `registry` now.
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        // Subscribed first, so that no meter is missed that appears after the look.
        let appeared = registry.events().subscribe();
        let mut meters = Self { registry, appeared, open: Vec::new(), over: Vec::new() };
        meters.look();
        meters
    }

    /// Whether there is one.
    pub(crate) fn any(&self) -> bool {
        !self.open.is_empty()
    }

    /// Follows what has happened up to `batch`.
    pub(crate) fn update(&mut self, batch: &Batch) {
        let mut appeared = false;
        // All of them, so that none is left for the next batch.
        while let Some(received) = self.appeared.try_next() {
            appeared |= match received {
                Received::Event(event) => meters_a_package(&event.domain),
                Received::Missed(_) => true,
            };
        }
        if appeared {
            self.look();
        }
        for ended in batch.ended() {
            if let Some(at) = self.open.iter().position(|(id, _)| id == ended) {
                self.over.push(self.open.swap_remove(at));
            }
        }
    }

    fn look(&mut self) {
        let there = self.registry.series();
        let same = |(id, series): &(SeriesId, Arc<Series>), all: &[(SeriesId, Arc<Series>)]| {
            all.iter().any(|(other, it)| other == id && Arc::ptr_eq(it, series))
        };
        self.over.retain(|over| same(over, &there));
        let is_meter = |(_, series): &(SeriesId, Arc<Series>)| {
            series.role == Role::Meter
                && series.domain.as_ref().is_some_and(|domain| meters_a_package(domain))
        };
        self.open = there.into_iter().filter(|it| is_meter(it) && !same(it, &self.over)).collect();
    }
}

/// Whether this domain has the packages' energy: as a meter, or as the share of it that the host of a virtual
/// machine reports.
fn meters_a_package(domain: &Domain) -> bool {
    domain.name == HOST_SHARE || domain.name.starts_with("package-") && domain.origin != Origin::Estimated
}
