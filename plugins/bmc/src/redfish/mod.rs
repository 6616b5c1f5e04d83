//! The way over the network: DMTF's Redfish.
//!
//! | module | holds |
//! | --- | --- |
//! | `model` | what the answers say: links, chassis, readings |
//! | `client` | requests over HTTPS: certificates, sessions, what went wrong |
//! | `discover` | the chassis that is this machine, and where its reading is |
//! | `source` | the pipeline element |

pub(crate) mod client;
pub(crate) mod discover;
pub(crate) mod model;
pub(crate) mod source;
