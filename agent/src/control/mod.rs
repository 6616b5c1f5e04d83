//! Control of a running agent: a unix socket that accepts the commands of `wattrace control` and of other
//! programs.
//!
//! ```text
//! client ── a line of JSON ──▶ server ──▶ executor ──▶ pipeline::control
//!        ◀── a line of JSON ──                ├──────▶ reload
//!        ◀── a line a batch, if it subscribed ┴──────▶ viewers
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `command.rs` | the commands, as clap and serde both read them |
//! | `protocol.rs` | requests and replies: `wattrace.control/1` |
//! | `line.rs` | lines of limited length on a socket that may be slow |
//! | `socket.rs` | the socket's file: its permissions, and what happens if it exists already |
//! | `server.rs` | connections and their limits: how many, how long, how much |
//! | `executor.rs` | carries out a command and makes the reply |
//! | `reload.rs` | reads the configuration again and restarts the plugins whose tables changed |
//! | `client.rs` | the client's end |
//! | `viewers.rs`, `feed.rs`, `describe.rs` | subscriptions: an output for each viewer, and what it says |
//! | `subscription.rs` | the client's end of a subscription |
//!
//! `pipeline/control.rs` acts on the elements, and `cli/control.rs` formats replies for people.

pub(crate) mod client;
pub(crate) mod command;
mod describe;
pub(crate) mod executor;
pub(crate) mod feed;
mod line;
pub(crate) mod protocol;
pub(crate) mod reload;
pub(crate) mod server;
mod socket;
pub(crate) mod subscription;
pub(crate) mod viewers;
