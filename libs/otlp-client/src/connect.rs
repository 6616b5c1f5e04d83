//! Chooses the way to the collector: the client of the configured protocol, with the configured credentials.

use std::sync::Arc;

use wattrace_api::Error;

use crate::config::Settings;
use crate::credentials::Authorized;
use crate::grpc::Grpc;
use crate::http::Http;
use crate::protocol::Protocol;
use crate::transport::Transport;

/// A transport by `settings`. It connects with the first request. Must be called within the async runtime.
///
/// # Errors
/// TLS files that cannot be used.
pub fn connect(settings: &Settings) -> Result<Arc<dyn Transport>, Error> {
    let credentials = settings.credentials.clone();
    Ok(match settings.protocol {
        Protocol::Grpc => Arc::new(Authorized { client: Grpc::new(settings)?, credentials }),
        Protocol::Http | Protocol::Json => Arc::new(Authorized { client: Http::new(settings)?, credentials }),
    })
}
