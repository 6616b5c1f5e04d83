//! The source: opens the addresses, and at each tick hands over what has come.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tracing::info;
use wattrace_api::{Batch, Clock, Error, Registry, Source, Tick};

use crate::config::Settings;
use crate::door::Door;
use crate::gateway::Gateway;
use crate::grpc::Grpc;
use crate::http::Http;
use crate::listen::{Service, bind, serve};
use crate::tls;

/// See the module.
pub(crate) struct Receiver {
    gateway: Arc<Gateway>,
    listeners: Vec<JoinHandle<()>>,
}

impl Receiver {
    /// Opens the addresses. Must be called within the async runtime.
    ///
    /// # Errors
    /// Fatal: an address or a file that cannot be used. The message names the key.
    pub(crate) fn open(settings: &Settings, registry: Arc<Registry>, clock: Clock) -> Result<Self, Error> {
        let door = Arc::new(Door::new(&settings.token)?);
        let gateway = Arc::new(Gateway::new(settings, registry, clock)?);
        let tls = |alpn: &[u8]| settings.tls.as_ref().map(|files| tls::server(files, alpn)).transpose();
        let most = settings.max_message;
        let grpc = Service::Grpc(Grpc::new(door.clone(), gateway.clone(), most));
        let http = Service::Http(Http::new(door, gateway.clone(), most));
        let mut bound = Vec::new();
        for (key, address, service, alpn) in
            [("grpc", settings.grpc, grpc, b"h2".as_slice()), ("http", settings.http, http, b"http/1.1")]
        {
            if let Some(address) = address {
                bound.push((bind(key, address)?, tls(alpn)?, service));
                info!(
                    "listening for OTLP on {address} ({key}{})",
                    if settings.tls.is_some() { ", TLS" } else { "" }
                );
            }
        }
        // Only now, so that a second address that is not to be had leaves nothing running.
        let spawn =
            |(listener, tls, service)| tokio::spawn(serve(listener, tls, service, settings.max_connections));
        Ok(Self { gateway, listeners: bound.into_iter().map(spawn).collect() })
    }
}

impl Source for Receiver {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        self.gateway.hand_over(tick.last, out);
        if self.listeners.iter().any(JoinHandle::is_finished) {
            return Err(Error::fatal("a listener ended"));
        }
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}
