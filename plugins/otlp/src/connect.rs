//! Chooses the way to the collector: the client of the configured protocol, behind the configured token.

use std::sync::Arc;

use wattrace_api::Error;

use crate::config::Settings;
use crate::grpc::Grpc;
use crate::http::Http;
use crate::protocol::Protocol;
use crate::token::Authorized;
use crate::transport::Transport;

/// A transport by `settings`. It connects with the first request. Must be called within the async runtime.
///
/// # Errors
/// TLS files that cannot be used.
pub(crate) fn connect(settings: &Settings) -> Result<Arc<dyn Transport>, Error> {
    let token = settings.token.clone();
    Ok(match settings.protocol {
        Protocol::Grpc => Arc::new(Authorized { client: Grpc::new(settings)?, token }),
        Protocol::Http => Arc::new(Authorized { client: Http::new(settings)?, token }),
    })
}
