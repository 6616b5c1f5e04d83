//! Reading over the network: DMTF's Redfish.
//!
//! | module | holds |
//! | --- | --- |
//! | `model` | parses answers: links, chassis, readings |
//! | `credentials` | the account that reads |
//! | `client` | requests over HTTPS: authentication, sessions, redirects |
//! | `answer` | an answer's status and JSON, compressed or not |
//! | `discover` | the chassis of this machine, and the path of its reading |
//! | `source` | the pipeline element |

pub(crate) mod answer;
pub(crate) mod client;
pub(crate) mod credentials;
pub(crate) mod discover;
pub(crate) mod model;
pub(crate) mod source;
