//! The way through the kernel: DCMI's "Get Power Reading" over IPMI.
//!
//! | module | holds |
//! | --- | --- |
//! | `wire` | the command's bytes |
//! | `device` | the kernel's device, and what stands in for it |
//! | `source` | the pipeline element |

pub(crate) mod device;
pub(crate) mod source;
pub(crate) mod wire;
