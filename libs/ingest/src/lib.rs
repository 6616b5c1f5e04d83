//! What the plugins share that take measurements from outside, from a child process (`exec`) or over the
//! network (`otlp-receiver`): whatever others say is checked here before it becomes a point. No plugin
//! itself.
//!
//! | module | holds |
//! | --- | --- |
//! | [`number`] | decimal text and floating-point numbers as whole steps, rounded once |
//! | [`declared`] | metrics that others declare, and what of them is remembered |
//! | [`books`] | the series that others opened: starts, resets, ends, what never goes backwards |
//! | [`fault`] | what can be wrong with a point |
//! | [`limit`] | how often the log may hear of it |
//! | [`unix_time`] | wall-clock time as the pipeline's |

pub mod books;
pub mod declared;
pub mod fault;
pub mod limit;
pub mod number;
pub mod unix_time;

pub use books::{Books, Page, Posted, Posting};
pub use declared::{Declarations, Declared, Declaring};
pub use fault::Fault;
pub use limit::Limit;
pub use unix_time::UnixTime;
