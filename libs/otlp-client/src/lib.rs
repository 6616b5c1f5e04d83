//! Sends requests to an OpenTelemetry collector: what the exporters of all signals have in common. A request
//! is bytes here, an encoded `Export…ServiceRequest`; a plugin makes them, and decides when to send them
//! again.
//!
//! | module | does |
//! | --- | --- |
//! | [`signal`] | what differs between metrics and traces: names of variables, paths |
//! | [`config`], `headers`, [`env`] | the settings: from the configuration and the environment |
//! | [`endpoint`], [`protocol`], [`compression`] | single settings |
//! | [`transport`] | what the ways to a collector have in common: a request goes out, an outcome comes back |
//! | `connect`, `grpc`, `grpc_wire`, `http`, `tls`, `credentials` | how requests are sent |
//! | `answer`, [`mod@shown`] | what answers mean, and how their texts are shown |
//! | [`fuzzing`] | answers as functions of bytes |
//!
//! ```no_run
//! # use wattrace_otlp_client::Signal;
//! use wattrace_otlp_client::{Config, Env, Settings, connect};
//!
//! # async fn send(signal: Signal, request: Vec<u8>) -> Result<(), wattrace_api::Error> {
//! let settings = Settings::resolve(Config::default(), &Env::process(signal))?;
//! let outcome = connect(&settings)?.send(request.into()).await;
//! # Ok(()) }
//! ```

mod answer;
pub mod compression;
pub mod config;
mod connect;
mod credentials;
pub mod endpoint;
pub mod env;
#[doc(hidden)]
pub mod fuzzing;
mod grpc;
mod grpc_wire;
mod headers;
mod http;
pub mod protocol;
pub mod shown;
pub mod signal;
mod tls;
pub mod transport;

pub use config::{Config, Settings};
pub use connect::connect;
pub use env::Env;
pub use signal::Signal;
pub use transport::{Outcome, Problem, Transport};

/// What this agent calls itself to collectors.
const USER_AGENT: &str = concat!("wattrace/", env!("CARGO_PKG_VERSION"));
