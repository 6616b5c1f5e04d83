//! What the GPU plugins (`nvidia`, `drm`) share, whatever the GPU's vendor.
//!
//! | module | holds |
//! | --- | --- |
//! | [`resolver`] | a pid → the consumer that all plugins share, or one made from /proc |
//! | [`usage`] | the series of one GPU: engine time and memory by process |
//! | [`energy`] | an energy counter that the hardware refreshes in steps → microjoules with their windows |
//! | [`DEVICE`] | how messages call a GPU |
//!
//! It is not a plugin, and reads no GPU.

pub mod energy;
pub mod resolver;
pub mod usage;

pub use energy::{Progress, SteppedCounter};
pub use resolver::ProcessResolver;
pub use usage::ProcessUsage;
use wattrace_api::{Device, ResourceKind};

/// A GPU of any vendor.
pub const DEVICE: Device = Device {
    name: "GPU",
    meters: ResourceKind::Gpu,
    without: "no energy of GPUs, and none of it is attributed to processes",
};
