//! Reading over the network: DMTF's Redfish.
//!
//! | module | holds |
//! | --- | --- |
//! | `model` | parses answers: links, chassis, readings |
//! | `client` | requests over HTTPS: authentication, sessions, errors |
//! | `discover` | the chassis of this machine, and the path of its reading |
//! | `source` | the pipeline element |

pub(crate) mod client;
pub(crate) mod discover;
pub(crate) mod model;
pub(crate) mod source;
