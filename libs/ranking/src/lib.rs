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

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::spec::Open;
use wattrace_api::{Registry, Transform};

pub use top::{Settings, Top};

/// An output's own transforms that leave series to `count` processes, and their threads, ranked again every
/// `interval`: none if `count` is 0.
pub fn of_processes(count: usize, interval: Duration, registry: &Arc<Registry>) -> Vec<Open<dyn Transform>> {
    if count == 0 {
        return Vec::new();
    }
    let (settings, registry) = (Settings::of_processes(count, interval), registry.clone());
    vec![Box::new(move || Ok(Box::new(Top::new(settings.clone(), registry.clone()))))]
}
