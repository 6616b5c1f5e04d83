//! What a cgroup received and sent over the network, by its sockets. The plugin that counts it opens series
//! of cgroups; the plugin that sums processes into groups adds them to the groups that the cgroup is in.

use crate::metric::Metric;
use crate::unit::Unit;

/// Bytes that sockets received.
pub const RECEIVED: Metric = Metric::counter(
    "wattrace.consumer.network.received",
    Unit::Byte,
    1.0,
    "Bytes of packets that a consumer received, from the network layer's header on",
);
/// Bytes that sockets sent.
pub const SENT: Metric = Metric::counter(
    "wattrace.consumer.network.sent",
    Unit::Byte,
    1.0,
    "Bytes of packets that a consumer sent, from the network layer's header on",
);
/// How many there are.
pub const COUNT: usize = 2;
/// All of them.
pub static ALL: [Metric; COUNT] = [RECEIVED, SENT];
