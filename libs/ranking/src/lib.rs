//! The top-N limit: only the heaviest consumers keep series of their own, and what all others use is summed
//! into `other`. The plugin `top` applies it to the whole pipeline, the plugin `otlp` to its own output.
//!
//! | module | holds |
//! | --- | --- |
//! | `ranking` | who is among the heaviest |
//! | `sums` | the sums of everybody else |
//! | `top` | the transform: sends each increment to its consumer's own series, or to a sum |

mod ranking;
mod sums;
mod top;

pub use top::{Settings, Top};
