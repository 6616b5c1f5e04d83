//! What meters share that give power at instants, or count energy in registers of some width.
//!
//! | module | holds |
//! | --- | --- |
//! | [`integral`] | [`PowerIntegral`]: samples of power → cumulative whole microjoules, honest about gaps |
//! | [`counter`] | [`Counter`]: a meter's own count of energy, with wraps undone and resets told apart |
//! | [`channel`] | [`Channel`]: one meter on its way into the pipeline |
//! | [`anomaly`] | what went differently, counted |
//! | [`sysfs`] | files of the kernel that hold a number or a word, and whether they are the kernel's |
//!
//! It is no plugin; `hwmon`, `battery` and `bmc` are made with it.

pub mod anomaly;
pub mod channel;
pub mod counter;
pub mod integral;
pub mod sysfs;

pub use anomaly::{Anomalies, Anomaly, Opener};
pub use channel::{Channel, Subject};
pub use counter::{Counter, Period, Step};
pub use integral::{PowerIntegral, Sampled};
