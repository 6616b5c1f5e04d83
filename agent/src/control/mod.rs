//! Control of a running agent from outside: a unix socket on which `wattrace control` and other programs say
//! what to do.
//!
//! ```text
//! client ── a line of JSON ──▶ server ──▶ commands ──▶ pipeline::control
//!        ◀── a line of JSON ──                └──────▶ reload
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `protocol.rs`, `element.rs` | what goes over the socket: commands, replies, elements; `wattrace.control/1` |
//! | `line.rs` | lines of bounded length on a socket that may be slow |
//! | `socket.rs` | the socket's file: made for its owner alone, taken over from the dead, left to the living |
//! | `server.rs` | connections: how many, how long, how much |
//! | `commands.rs` | from a command to its reply |
//! | `reload.rs` | the configuration read anew, and the plugins restarted whose tables changed |
//! | `client.rs` | the other end |
//!
//! The commands themselves are `pipeline/control.rs`'; how replies look to people is `cli/control.rs`'.

pub(crate) mod client;
pub(crate) mod commands;
pub(crate) mod element;
mod line;
pub(crate) mod protocol;
pub(crate) mod reload;
pub(crate) mod server;
mod socket;
