//! Reading through the kernel: DCMI's "Get Power Reading" over IPMI.
//!
//! | module | holds |
//! | --- | --- |
//! | `wire` | the command's bytes |
//! | `device` | the kernel's device |
//! | `source` | the pipeline element |

pub(crate) mod device;
pub(crate) mod source;
pub(crate) mod wire;
