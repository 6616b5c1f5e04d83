//! What a process used besides CPU time and energy, since it is watched: a series of each figure that is not
//! zero. The source of usage reports it when the process has ended, and now and then while it lives.

use crate::metric::{Metric, NANOSECOND};
use crate::unit::Unit;

/// Context switches because a thread of the process waited for something.
pub const VOLUNTARY_SWITCHES: Metric = Metric::counter(
    "wattrace.consumer.switches.voluntary",
    Unit::Count("{switch}"),
    1.0,
    "Context switches in which a consumer gave its CPU up",
);
/// Context switches because another thread was to run.
pub const INVOLUNTARY_SWITCHES: Metric = Metric::counter(
    "wattrace.consumer.switches.involuntary",
    Unit::Count("{switch}"),
    1.0,
    "Context switches in which a consumer was preempted",
);
/// Page faults that needed no reading.
pub const MINOR_FAULTS: Metric = Metric::counter(
    "wattrace.consumer.faults.minor",
    Unit::Count("{fault}"),
    1.0,
    "Page faults of a consumer that needed no reading from storage",
);
/// Page faults that needed reading.
pub const MAJOR_FAULTS: Metric = Metric::counter(
    "wattrace.consumer.faults.major",
    Unit::Count("{fault}"),
    1.0,
    "Page faults of a consumer that needed reading from storage",
);
/// Bytes that system calls read.
pub const IO_READ: Metric = Metric::counter(
    "wattrace.consumer.io.read",
    Unit::Byte,
    1.0,
    "Bytes that a consumer read from files, pipes and devices",
);
/// Bytes that system calls wrote.
pub const IO_WRITTEN: Metric = Metric::counter(
    "wattrace.consumer.io.written",
    Unit::Byte,
    1.0,
    "Bytes that a consumer wrote to files, pipes and devices",
);
/// Bytes read from storage.
pub const DISK_READ: Metric = Metric::counter(
    "wattrace.consumer.disk.read",
    Unit::Byte,
    1.0,
    "Bytes that were read from storage for a consumer",
);
/// Bytes written to storage.
pub const DISK_WRITTEN: Metric = Metric::counter(
    "wattrace.consumer.disk.written",
    Unit::Byte,
    1.0,
    "Bytes that are or will be written to storage for a consumer",
);
/// Time in which a thread was ready to run and waited for a CPU.
pub const CPU_WAIT: Metric = Metric::counter(
    "wattrace.consumer.cpu.wait",
    Unit::Second,
    NANOSECOND,
    "Time in which threads of a consumer were ready to run and waited for a CPU",
);
/// The most memory at once.
pub const PEAK_MEMORY: Metric = Metric::gauge(
    "wattrace.consumer.memory.peak",
    Unit::Byte,
    "The most memory that a consumer had at once (resident set size), when it has ended",
);
/// How many there are.
pub const COUNT: usize = 10;
/// All of them.
pub static ALL: [Metric; COUNT] = [
    VOLUNTARY_SWITCHES,
    INVOLUNTARY_SWITCHES,
    MINOR_FAULTS,
    MAJOR_FAULTS,
    IO_READ,
    IO_WRITTEN,
    DISK_READ,
    DISK_WRITTEN,
    CPU_WAIT,
    PEAK_MEMORY,
];
