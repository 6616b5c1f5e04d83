//! The memory of processes while they run. The plugin that reads it reports the processes that use the most
//! energy: reading is expensive.

use crate::metric::Metric;
use crate::unit::Unit;

/// Memory of a process that is in RAM, each page in full.
pub const RSS: Metric = Metric::gauge(
    "wattrace.consumer.memory.rss",
    Unit::Byte,
    "Memory of a consumer that is in RAM (resident set size)",
);
/// The same, each page divided by the number of processes that map it, so that processes add up.
pub const PSS: Metric = Metric::gauge(
    "wattrace.consumer.memory.pss",
    Unit::Byte,
    "Memory of a consumer that is in RAM, its part of what it shares with others (proportional set size)",
);
/// Memory of a process that is swapped out.
pub const SWAP: Metric = Metric::gauge(
    "wattrace.consumer.memory.swap",
    Unit::Byte,
    "Memory of a consumer that is swapped out, its part of what it shares with others",
);
/// How many there are.
pub const COUNT: usize = 3;
/// All of them.
pub static ALL: [Metric; COUNT] = [RSS, PSS, SWAP];
