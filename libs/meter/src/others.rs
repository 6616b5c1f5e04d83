//! Whether other plugins meter the same. A source that meters packages where nothing better does asks here
//! when it opens and on each poll, and yields.

use std::sync::Arc;

use wattrace_api::events::ResourceAppeared;
use wattrace_api::{Domain, Origin, Received, Registry, Subscription};

/// The meters of an agent, as one of their sources sees them.
#[derive(Debug)]
pub struct OtherMeters {
    registry: Arc<Registry>,
    appeared: Subscription<ResourceAppeared>,
}

/// Whether a meter of this domain meters a package. An estimate is no meter.
pub fn is_of_package(domain: &Domain) -> bool {
    domain.name.starts_with("package-") && domain.origin != Origin::Estimated
}

impl OtherMeters {
    /// Those in `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { appeared: registry.events().subscribe(), registry }
    }

    /// Whether there are more open domains of the kind `is_wanted` than `ours`.
    pub fn exist_beside(&self, ours: usize, is_wanted: impl Fn(&Domain) -> bool) -> bool {
        self.registry.domains().iter().filter(|domain| is_wanted(domain)).count() > ours
    }

    /// Whether a meter of a package has been opened since the last call, by anybody.
    pub fn package_appeared(&mut self) -> bool {
        let mut any = false;
        // All of them, so that none is left for the next call.
        while let Some(received) = self.appeared.try_next() {
            any |= match received {
                Received::Event(event) => is_of_package(&event.domain),
                Received::Missed(_) => true,
            };
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::{Follows, Resource, SeriesSpec, Timestamp, metric};

    use super::*;

    #[test]
    fn a_meter_of_packages_is_seen_and_an_estimate_is_none() {
        let registry = Registry::new();
        let mut others = OtherMeters::new(registry.clone());
        let metric = registry.metric(&metric::HW_ENERGY).unwrap();
        let open = |name: &str, origin| {
            let name = name.to_owned();
            let domain = Domain { name, origin, follows: Follows::Cpus, within: None, idle_microwatts: None };
            let spec = SeriesSpec::new(metric, Resource::HOST, Timestamp(0));
            registry.open(SeriesSpec { domain: Some(Arc::new(domain)), ..spec });
        };
        open("package-0", Origin::Estimated);
        open("dram-0", Origin::Measured);
        assert!(!others.package_appeared() && !others.exist_beside(0, is_of_package));
        open("package-1", Origin::Measured);
        assert!(others.package_appeared() && !others.package_appeared());
        assert!(others.exist_beside(0, is_of_package) && !others.exist_beside(1, is_of_package));
    }
}
