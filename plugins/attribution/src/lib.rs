//! The `attribution` plugin: divides each energy domain's joules among the consumers that used the hardware.
//!
//! For every energy domain and every window that its meter reports,
//!
//! ```text
//! measured = Σ consumers + idle + unattributed,   exactly, in microjoules.
//! ```
//!
//! Energy is divided by the usage, in that same window, of the hardware that the domain follows: a package's
//! energy by the CPU time (or cycles, …) on that package, a core's on that core, a device's by the use of
//! that device. Energy from before usage was known, or from a gap in it, is `unattributed`.
//!
//! The plugin has two halves. The **books** are exact and know integers only: what was measured, used, idle
//! and unattributed. The **power model** learns from the meter how power depends on usage, and gives the
//! weights by which the books divide.
//!
//! | file | holds |
//! | --- | --- |
//! | `config.rs` | the keys of `[plugins.attribution]` |
//! | `transform.rs`, `series_use.rs` | the transform: passes each series' points to the books |
//! | `amounts.rs`, `code.rs` | what is counted of a consumer, and which kind of code that shows; both halves use it |
//! | `books.rs`, `books/` | usage by window, an account per domain, exact splitting, published totals |
//! | `model.rs`, `model/` | the power model: `observe`, `weigh`, `static_power`; its constants, its state |

mod amounts;
mod books;
mod code;
mod config;
mod model;
mod series_use;
mod transform;

use wattrace_api::{Error, Plugin, Setup};

pub use config::{AttributionConfig, GpuIdle, Idle, Weights};
pub use model::{CountedWindow, PowerPredictor};
pub use transform::Transformer;

/// The plugin.
#[derive(Debug)]
pub struct Attribution;

impl Plugin for Attribution {
    const NAME: &'static str = "attribution";
    const DESCRIPTION: &'static str =
        "divides energy among processes by their usage; the books close exactly";
    type Config = AttributionConfig;

    fn start(config: AttributionConfig, setup: &mut Setup) -> Result<(), Error> {
        config.check()?;
        let registry = setup.registry();
        setup.transform("cpu", move || Transformer::open(&config, registry.clone()));
        Ok(())
    }
}
