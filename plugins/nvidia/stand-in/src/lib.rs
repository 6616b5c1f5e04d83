//! A stand-in for `libnvidia-ml.so.1`: GPUs that exist in a file only. It is loaded in the library's place
//! (`plugins.nvidia.library`), and what is read through it is labelled `simulated`.
//!
//! | module | holds |
//! | --- | --- |
//! | [`scenario`] | what the file says: power over time, processes and what they use, when a GPU falls off the bus |
//! | `machine` | that scenario at an instant: energy counted, samples taken, who is there |
//! | [`exports`] | the functions of NVML that the plugin calls, and no more |
//!
//! The file is named by the environment variable `WATTRACE_NVML_SCENARIO`, or else lies beside the library,
//! under its name with `.toml` after it: so each copy of the library is a machine of its own.

pub mod exports;
pub mod scenario;

mod machine;

pub use scenario::{Busy, Device, Mig, Process, Scenario};
