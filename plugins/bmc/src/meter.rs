//! The domain that a BMC measures: the whole server, at its power supplies. `dcmi` and `redfish` read it.

use wattrace_api::{Domain, Follows, Origin, Resource, metric};
use wattrace_meter::Subject;

/// The subject of a BMC's power.
pub(crate) fn server(origin: Origin) -> Subject {
    let domain = Domain {
        name: "bmc".to_owned(),
        origin,
        follows: Follows::Cpus,
        within: None,
        idle_microwatts: None,
    };
    Subject { metric: metric::HW_HOST_ENERGY, resource: Resource::HOST, domain }
}
