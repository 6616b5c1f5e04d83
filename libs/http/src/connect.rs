//! Connections over TCP, TLS and unix sockets. A [`Connector`] is what hyper's client and tonic's
//! `connect_with_connector_lazy` take: one implementation for both.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::error::{Error, chain};

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    to: Destination,
    tls: Option<TlsConnector>,
    limit: Duration,
}

#[derive(Clone)]
enum Destination {
    /// The host and port of the request.
    Tcp(HttpConnector),
    /// This socket, whatever the request says.
    Unix(PathBuf),
}

impl Connector {
    /// Connects to the host of each request, within `limit`. Without `tls` it refuses `https://`.
    pub fn tcp(tls: Option<Arc<ClientConfig>>, limit: Duration) -> Self {
        let mut connect = HttpConnector::new();
        connect.enforce_http(false);
        connect.set_nodelay(true);
        Self { to: Destination::Tcp(connect), tls: tls.map(TlsConnector::from), limit }
    }

    /// Connects to the unix socket `path`, within `limit`.
    pub fn unix(path: PathBuf, limit: Duration) -> Self {
        Self { to: Destination::Unix(path), tls: None, limit }
    }

    async fn connect(self, uri: Uri) -> Result<Stream, Error> {
        match timeout(self.limit, self.open(uri)).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Timeout(self.limit)),
        }
    }

    async fn open(&self, uri: Uri) -> Result<Stream, Error> {
        let connect = match &self.to {
            Destination::Unix(path) => {
                return UnixStream::connect(path).await.map(Stream::new).map_err(Error::Connect);
            }
            Destination::Tcp(connect) => connect.clone().call(uri.clone()),
        };
        let stream = connect.await.map_err(|e| Error::Connect(unwrapped(&e)))?;
        if uri.scheme_str() != Some("https") {
            return Ok(Stream(Box::new(stream)));
        }
        let Some(tls) = &self.tls else {
            return Err(Error::Tls(format!("{uri}: https:// without a TLS configuration")));
        };
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|e| Error::Tls(format!("{host}: {e}")))?;
        let stream = tls.connect(name, stream.into_inner()).await.map_err(|e| Error::Tls(chain(&e)))?;
        let offered = &tls.config().alpn_protocols;
        // A gRPC client speaks nothing but HTTP/2.
        if offered.iter().all(|p| p == b"h2")
            && !offered.is_empty()
            && stream.get_ref().1.alpn_protocol().is_none()
        {
            return Err(Error::Tls(format!("{host} does not speak HTTP/2 over TLS (ALPN h2)")));
        }
        Ok(Stream::new(stream))
    }
}

/// The I/O error behind hyper-util's error, with the whole text.
fn unwrapped(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let kind = crate::error::find::<io::Error>(error).map_or(io::ErrorKind::Other, io::Error::kind);
    io::Error::new(kind, chain(error))
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// A connection of any kind.
pub struct Stream(Box<dyn Io>);

trait Io: Read + Write + Unpin + Send {}
impl<T: Read + Write + Unpin + Send> Io for T {}

impl Stream {
    pub(crate) fn new(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        Self(Box::new(TokioIo::new(stream)))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bytes)
    }
}
