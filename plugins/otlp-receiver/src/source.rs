//! The source: opens the addresses, and hands over what has arrived when it is polled: after the wake-up that
//! the servers give it, and on its ticks, which end idle series and publish the gateway's own metrics.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::info;
use wattrace_api::{Batch, Clock, Error, Registry, ResultExt, Source, Tick};
use wattrace_http::{PemFile, TlsError};

use crate::admission::Admission;
use crate::config::{Settings, bad};
use crate::gateway::Gateway;
use crate::grpc::Grpc;
use crate::http::Http;
use crate::listen::{Service, serve};
use crate::seats::Seats;
use crate::wake::{self, Wakeup};

/// See the module.
pub(crate) struct Receiver {
    gateway: Arc<Gateway>,
    wakeup: Wakeup,
    listeners: Vec<JoinHandle<()>>,
}

impl Receiver {
    /// Opens the addresses. The servers run on `runtime`.
    ///
    /// # Errors
    /// Fatal: an address or a file that cannot be used. The message names the key.
    pub(crate) fn open(
        settings: &Settings,
        registry: Arc<Registry>,
        clock: Clock,
        runtime: &Handle,
    ) -> Result<Self, Error> {
        let _guard = runtime.enter();
        let admission = Arc::new(Admission::new(&settings.token, settings.max_message)?);
        let (waker, wakeup) = wake::pair(settings.interval, runtime.clone()).or_retry()?;
        let gateway = Arc::new(Gateway::new(settings, registry, clock)?.with_waker(waker));
        let most = settings.max_message;
        let grpc = Service::Grpc(Grpc::new(admission.clone(), gateway.clone(), most));
        let http = Service::Http(Http::new(admission, gateway.clone(), most));
        let mut bound = Vec::new();
        for (key, address, service, protocol) in
            [("grpc", settings.grpc, grpc, b"h2".as_slice()), ("http", settings.http, http, b"http/1.1")]
        {
            if let Some(address) = address {
                let tls =
                    settings.tls.as_ref().map(|tls| tls.config(protocol)).transpose().map_err(unusable)?;
                let listener = wattrace_http::listen(address, Some("a collector"));
                bound.push((listener.map_err(|e| bad(key, e))?, tls, service));
                let tls = if settings.tls.is_some() { ", TLS" } else { "" };
                info!("listening for OTLP on {address} ({key}{tls})");
            }
        }
        // After the loop, so that nothing runs if the second address cannot be used.
        let seats = Seats::new(settings.max_connections);
        let spawn = |(listener, tls, service)| tokio::spawn(serve(listener, tls, service, seats.clone()));
        Ok(Self { gateway, wakeup, listeners: bound.into_iter().map(spawn).collect() })
    }
}

/// Names the key of a TLS file that cannot be used.
fn unusable(error: TlsError) -> Error {
    let key = match &error {
        TlsError::File { file: PemFile::Authority, .. } => "client_authority",
        TlsError::File { file: PemFile::Key, .. } => "key",
        _ => "certificate",
    };
    bad(key, error)
}

impl Source for Receiver {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        // Before the points are taken, so that those that arrive meanwhile wake it again.
        self.wakeup.clear();
        self.gateway.hand_over(tick.last, out);
        if self.listeners.iter().any(JoinHandle::is_finished) {
            return Err(Error::fatal("a listener ended"));
        }
        Ok(())
    }

    fn wakeup(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wakeup.as_fd())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.listeners.iter().for_each(JoinHandle::abort);
    }
}
