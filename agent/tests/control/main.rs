//! `wattrace control` and reload with the built agent: commands take effect, invalid ones are refused without
//! effect, and no client, file or signal stops the tracing. Only one test needs root.
//!
//! | file | tests |
//! | --- | --- |
//! | `machine.rs` | none: a simulated machine, an agent on it, and the commands |
//! | `commands.rs` | the commands |
//! | `socket.rs` | the socket's file |
//! | `clients.rs` | other clients, faulty and malicious ones included |
//! | `reload.rs` | reloading the configuration |
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod clients;
mod commands;
mod machine;
mod reload;
mod socket;
#[path = "../support/mod.rs"]
mod support;
