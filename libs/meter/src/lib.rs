//! What plugins that read energy meters share. It is a library, not a plugin: `rapl`, `hwmon`, `battery`,
//! `bmc`, `cray`, `resctrl`, `nvidia` and `drm` use it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`sysfs`] | files of the kernel that hold a number or a word, and whether they are the kernel's own |
//! | [`names`] | names of domains and sensors, made from what drivers call them |
//! | [`scale`] | [`Scale`]: the exact factor from a counter's units to microjoules |
//! | [`counter`] | [`Counter`]: an energy counter with wraps undone, and resets and jumps detected |
//! | [`integral`] | [`PowerIntegral`]: samples of power, integrated to whole microjoules |
//! | [`anomaly`] | [`Anomaly`]: the kinds of irregular readings, and their counts |
//! | [`series`] | [`MeterSeries`]: the series of one meter's energy and anomalies |
//! | [`counter_channel`] | [`CounterChannel`]: a counter and its series; the caller decides the windows |
//! | [`channel`] | [`Channel`]: a meter and its series; windows from reading to reading |
//! | [`keys`] | checks of keys that these plugins have in common |
//! | [`others`] | [`OtherMeters`]: whether other plugins meter the same |

pub mod anomaly;
pub mod channel;
pub mod counter;
pub mod counter_channel;
pub mod integral;
pub mod keys;
pub mod names;
pub mod others;
pub mod scale;
pub mod series;
pub mod sysfs;

pub use anomaly::{Anomalies, Anomaly, METER_ANOMALIES};
pub use channel::Channel;
pub use counter::{Counter, Period, Step, powercap_period};
pub use counter_channel::{CounterChannel, CounterProfile};
pub use integral::{PowerIntegral, Sampled};
pub use others::OtherMeters;
pub use scale::Scale;
pub use series::{MeterSeries, Subject};
