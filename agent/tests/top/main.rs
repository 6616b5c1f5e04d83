//! `wattrace top` with the built agent on a simulated machine.
//!
//! | file | tests |
//! | --- | --- |
//! | `machine.rs` | none: a simulated machine, an agent on it, and what tables must be |
//! | `tables.rs` | one table, from a tracer, a running agent, and a recording |
//! | `subscription.rs` | the points of a running agent over its socket |
//! | `screens.rs`, `terminal.rs` | the screens on a terminal; that terminal |
#![cfg(all(feature = "simulator", feature = "attribution", feature = "groups", feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod machine;
mod screens;
mod subscription;
#[path = "../support/mod.rs"]
mod support;
mod tables;
mod terminal;
