//! The output: passes batches to the table, and owns the server.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::info;
use wattrace_api::{Batch, Clock, Error, Output, Registry};
use wattrace_http::{PemFile, TlsError};

use crate::access::Access;
use crate::config::{Settings, bad};
use crate::exposition::Exhibit;
use crate::server::{self, Service};
use crate::table::Table;

/// Most bytes of ended series that wait for a scrape: about 50,000 series.
const MOST_ENDED: usize = 16 * 1024 * 1024;

/// The output.
pub(crate) struct Exporter {
    exhibit: Arc<Exhibit>,
    server: JoinHandle<()>,
}

impl Exporter {
    /// Listens, and serves what will be written.
    ///
    /// # Errors
    /// Fatal: an address, a certificate or a password that cannot be used. The message names the key.
    pub(crate) fn open(
        settings: &Settings,
        registry: Arc<Registry>,
        clock: Clock,
        runtime: &Handle,
    ) -> Result<Self, Error> {
        let credentials = settings.login.as_ref().map(|login| login.credentials()).transpose()?;
        let tls = settings.tls.as_ref().map(|tls| tls.config(b"http/1.1")).transpose();
        let tls = tls.map_err(|e| bad(key_of(&e), &e))?;
        let _within = runtime.enter();
        let listener = wattrace_http::listen(settings.listen, None).map_err(|e| bad("listen", e))?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        info!("serving metrics at {scheme}://{}{}", settings.listen, settings.path);
        let exhibit = Arc::new(Exhibit::new(Table::new(registry, MOST_ENDED), clock, settings.keep_ended));
        let (path, access) = (settings.path.as_str().into(), Access::new(credentials));
        let service = Service { path, access, exhibit: exhibit.clone() };
        let server = runtime.spawn(server::serve(listener, tls, service));
        Ok(Self { exhibit, server })
    }
}

/// The configuration key of what is wrong with TLS.
fn key_of(error: &TlsError) -> &'static str {
    match error {
        TlsError::File { file: PemFile::Authority, .. } => "client_authority",
        TlsError::File { file: PemFile::Key, .. } => "key",
        _ => "certificate",
    }
}

impl Output for Exporter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.exhibit.write(batch);
        Ok(())
    }

    fn undelivered(&self) -> u64 {
        self.exhibit.unscraped()
    }

    fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        self.exhibit.take_losses()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.server.abort();
    }
}
