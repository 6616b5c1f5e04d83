//! A stand-in for `libnvidia-ml.so.1`: GPUs that exist in a file only. It is loaded instead of NVIDIA's
//! library (`plugins.nvidia.library`), and the agent labels its numbers `simulated`.
//!
//! | module | holds |
//! | --- | --- |
//! | [`scenario`] | the file: power over time, processes and what they use, when a GPU is lost |
//! | `machine` | the scenario at an instant: energy counted, samples taken, processes present |
//! | [`devices`], [`readings`], [`monitoring`] | the functions of NVML that the plugin calls, with its names and layouts |
//! | `abi` | what these functions share |
//!
//! The environment variable `WATTRACE_NVML_SCENARIO` names the file. Without it, the file is the library's
//! own path with `.toml` after it, so that each copy of the library is a machine of its own.

pub mod devices;
pub mod monitoring;
pub mod readings;
pub mod scenario;

mod abi;
mod machine;

pub use scenario::{Busy, Device, Mig, Process, Scenario};
