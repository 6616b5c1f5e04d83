//! Control of a running agent: a unix socket that accepts the commands of `wattrace control` and of other
//! programs.
//!
//! ```text
//! client ── a line of JSON ──▶ server ──▶ executor ──▶ pipeline::control
//!        ◀── a line of JSON ──                └──────▶ reload
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
//!
//! `pipeline/control.rs` acts on the elements, and `cli/control.rs` formats replies for people.

pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod executor;
mod line;
pub(crate) mod protocol;
pub(crate) mod reload;
pub(crate) mod server;
mod socket;
