//! The top-N limit: only the heaviest consumers keep series of their own, and what all others use is summed
//! into `other`. The plugin `top` applies it to the whole pipeline, the plugin `otlp` to its own output.
//!
//! | module | holds |
//! | --- | --- |
//! | `ranking` | who is among the heaviest; knows neither series nor time |
//! | `sums` | the sums of everybody else |
//! | `top` | the transform: sends each increment to a series of its consumer's own, or to a sum |

mod ranking;
mod sums;
mod top;

pub use top::{Settings, Top};
