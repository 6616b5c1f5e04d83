//! `wattrace control` and reload against the built agent: what is told is done, what makes no sense is
//! refused and changes nothing, and no client, file or signal stops the tracing. Only one test needs root.
//!
//! | file | tests |
//! | --- | --- |
//! | `machine.rs` | none: a simulated machine, an agent on it, and what controls it |
//! | `commands.rs` | what the commands do and say |
//! | `socket.rs` | the socket's file |
//! | `clients.rs` | clients of other makes, clumsy and malicious |
//! | `reload.rs` | the configuration read anew |
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod clients;
mod commands;
mod machine;
mod reload;
mod socket;
#[path = "../support/mod.rs"]
mod support;
