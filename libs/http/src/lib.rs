//! HTTP and TLS for plugins. Everything that speaks either of them goes through here, so that timeouts,
//! limits and trust in certificates are decided in one place.
//!
//! | module | holds |
//! | --- | --- |
//! | [`client`] | the client: requests with a timeout and a size limit, async or blocking |
//! | [`connect`] | connections over TCP, TLS and unix sockets: for the client, and for tonic's channels |
//! | [`proxy`] | the proxies that the environment names |
//! | `listen` | listening on a configured address |
//! | [`tls`], `pinned` | rustls configurations of clients and servers, made from PEM files |
//! | `reload` | TLS whose files may be replaced |
//! | [`error`], `retry_after` | why there is no answer; how long a server asks to wait |
//! | [`testing`] | certificates for tests |
//!
//! Servers bring their own accept loops: they need only [`listen()`] and [`ServerTls`].
//! docs/decisions/0005-http-and-clients.md says why these libraries were chosen.

pub mod client;
pub mod connect;
pub mod error;
#[doc(hidden)]
pub mod fuzzing;
mod listen;
mod pinned;
pub mod proxy;
mod reload;
mod retry_after;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;

pub use client::{Answer, BlockingClient, Client, Limits};
pub use connect::{Connector, Tls};
pub use error::{Error, chain, find};
pub use listen::listen;
pub use proxy::Proxy;
pub use reload::ReloadingTls;
pub use retry_after::retry_after;
pub use tls::{ClientTls, Identity, PemFile, ServerTls, TlsError, Trust};
