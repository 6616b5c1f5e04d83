//! The protocols of OTLP.

use tracing::warn;
use wattrace_api::Error;

use crate::env::Env;

/// How requests are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Protobuf over gRPC.
    Grpc,
    /// Protobuf over HTTP/1.1.
    Http,
    /// JSON over HTTP/1.1.
    Json,
}

const ALL: [Protocol; 3] = [Protocol::Grpc, Protocol::Http, Protocol::Json];

impl Protocol {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http/protobuf",
            Protocol::Json => "http/json",
        }
    }

    /// The port on which collectors listen.
    pub(crate) fn port(self) -> u16 {
        if self == Protocol::Grpc { 4317 } else { 4318 }
    }

    /// The protocol that is configured or, if that is empty, named by `env`; otherwise gRPC.
    ///
    /// # Errors
    /// An unknown name in the configuration.
    pub(crate) fn resolve(configured: &str, env: &Env<'_>) -> Result<Self, Error> {
        let find = |name: &str| ALL.into_iter().find(|protocol| protocol.as_str() == name);
        if !configured.is_empty() {
            let unknown = || {
                env.bad(
                    "protocol",
                    format!("`{configured}` is unknown; it is `grpc`, `http/protobuf` or `http/json`"),
                )
            };
            return find(configured).ok_or_else(unknown);
        }
        let Some((name, value)) = env.exporter("PROTOCOL") else { return Ok(Protocol::Grpc) };
        Ok(find(&value.to_ascii_lowercase()).unwrap_or_else(|| {
            warn!("{name}={value} is ignored: it is neither grpc, http/protobuf nor http/json");
            Protocol::Grpc
        }))
    }
}
