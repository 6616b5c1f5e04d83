//! Checks measurements that come from outside the agent, from a child process (`exec`) or over the network
//! (`otlp-receiver`), before they become points. A library, not a plugin.
//!
//! | module | holds |
//! | --- | --- |
//! | [`number`] | decimal text and floating-point numbers as whole steps, rounded once |
//! | [`metric_table`] | the metrics that a sender declared |
//! | [`series_table`] | the series that a sender opened: starts, resets, ends; counters never decrease |
//! | [`error`] | why a point is refused |
//! | [`rate_limit`] | how many log lines a sender's errors may cause |
//! | [`unix_time`] | from wall-clock time to the pipeline's monotonic time |

pub mod error;
pub mod metric_table;
pub mod number;
pub mod rate_limit;
pub mod series_table;
pub mod unix_time;

pub use error::PointError;
pub use metric_table::{DeclaredMetric, MetricDeclaration, MetricTable};
pub use rate_limit::RateLimit;
pub use series_table::{IncomingPoint, Recorded, SegmentWriter, SeriesTable};
pub use unix_time::UnixTime;
