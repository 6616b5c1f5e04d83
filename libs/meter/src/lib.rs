//! What plugins that read energy meters share. It is a library, not a plugin: `rapl`, `hwmon`, `battery`, `bmc`,
//! `nvidia` and `drm` use it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`sysfs`] | files of the kernel that hold a number or a word, and whether they are the kernel's own |
//! | [`scale`] | [`Scale`]: the exact factor from a counter's units to microjoules |
//! | [`counter`] | [`Counter`]: an energy counter with wraps undone, and resets and jumps detected |
//! | [`integral`] | [`PowerIntegral`]: samples of power, integrated to whole microjoules, with gaps left out |
//! | [`anomaly`] | [`Anomaly`]: the kinds of irregular readings, and their counts |
//! | [`series`] | [`MeterSeries`]: the series of one meter's energy and anomalies |
//! | [`counter_channel`] | [`CounterChannel`]: a counter and its series, for windows that the caller decides |
//! | [`channel`] | [`Channel`]: a meter of power or energy and its series, with a window from reading to reading |

pub mod anomaly;
pub mod channel;
pub mod counter;
pub mod counter_channel;
pub mod integral;
pub mod scale;
pub mod series;
pub mod sysfs;

pub use anomaly::{Anomalies, Anomaly, METER_ANOMALIES};
pub use channel::Channel;
pub use counter::{Counter, Period, Step, powercap_period};
pub use counter_channel::{CounterChannel, CounterProfile};
pub use integral::{PowerIntegral, Sampled};
pub use scale::Scale;
pub use series::{MeterSeries, Subject};
