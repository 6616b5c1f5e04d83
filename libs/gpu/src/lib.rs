//! What the GPU plugins (`nvidia`, `drm`) share, whatever the maker of the GPU.
//!
//! | module | holds |
//! | --- | --- |
//! | [`who`] | a pid → the consumer that all plugins share; one of our own where nobody follows the processes |
//! | [`users`] | the series of one GPU: time that its engines worked for a process, memory that a process holds |
//! | [`energy`] | counters of energy that the hardware refreshes in steps → cumulative microjoules, each with its window |
//!
//! It is no plugin, and reads no GPU.

pub mod energy;
pub mod users;
pub mod who;

pub use energy::{Progress, SteppedCounter};
pub use users::Users;
pub use who::Who;
