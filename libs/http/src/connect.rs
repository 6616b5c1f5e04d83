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
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use crate::error::{Error, chain};
use crate::proxy::{Proxy, Via};
use crate::reload::ReloadingTls;

/// The TLS of a client's connections.
#[derive(Clone, Default)]
pub enum Tls {
    /// None: `https://` is refused.
    #[default]
    None,
    /// The same for all connections.
    Fixed(Arc<ClientConfig>),
    /// That of files as they are when a connection is opened.
    Files(Arc<ReloadingTls>),
}

impl From<Option<Arc<ClientConfig>>> for Tls {
    fn from(config: Option<Arc<ClientConfig>>) -> Self {
        config.map_or(Tls::None, Tls::Fixed)
    }
}

impl From<Arc<ReloadingTls>> for Tls {
    fn from(files: Arc<ReloadingTls>) -> Self {
        Tls::Files(files)
    }
}

impl Tls {
    async fn config(&self) -> Option<Arc<ClientConfig>> {
        match self {
            Tls::None => None,
            Tls::Fixed(config) => Some(config.clone()),
            Tls::Files(files) => {
                let files = files.clone();
                // It fails only while the runtime shuts down.
                spawn_blocking(move || files.current()).await.ok()
            }
        }
    }
}

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    to: Destination,
    tls: Tls,
    limit: Duration,
    proxy: Option<Proxy>,
    /// Whether requests without TLS may be forwarded by the proxy, instead of going through a tunnel.
    forwards: bool,
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
    pub fn tcp(tls: impl Into<Tls>, limit: Duration) -> Self {
        let mut connect = HttpConnector::new();
        connect.enforce_http(false);
        connect.set_nodelay(true);
        let to = Destination::Tcp(connect);
        Self { to, tls: tls.into(), limit, proxy: None, forwards: false }
    }

    /// The same, but through a tunnel of `proxy` where that applies.
    #[must_use]
    pub fn through(self, proxy: Proxy) -> Self {
        Self { proxy: Some(proxy), ..self }
    }

    /// The same, but requests without TLS need no tunnel: the client sends them to the proxy itself.
    pub(crate) fn forwarding_through(self, proxy: Proxy) -> Self {
        Self { forwards: true, ..self.through(proxy) }
    }

    /// Connects to the unix socket `path`, within `limit`.
    pub fn unix(path: PathBuf, limit: Duration) -> Self {
        Self { to: Destination::Unix(path), tls: Tls::None, limit, proxy: None, forwards: false }
    }

    async fn connect(self, uri: Uri) -> Result<Stream, Error> {
        match timeout(self.limit, self.open(uri)).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::Timeout(self.limit)),
        }
    }

    async fn open(&self, uri: Uri) -> Result<Stream, Error> {
        let is_tls = uri.scheme_str() == Some("https");
        let stream = match (&self.to, self.proxy.as_ref().and_then(|proxy| proxy.via(&uri))) {
            (Destination::Unix(path), _) => {
                return UnixStream::connect(path).await.map(Stream::new).map_err(Error::Connect);
            }
            (Destination::Tcp(connect), None) => dial(connect, &uri).await?,
            (Destination::Tcp(connect), Some(via)) if self.forwards && !is_tls && via.is_plain() => {
                let stream = dial(connect, &via.uri).await.map_err(|e| via.failed(&e))?;
                return Ok(Stream { is_forwarded: true, ..stream });
            }
            (_, Some(via)) => Box::pin(self.tunnel(&via, &uri)).await?,
        };
        if is_tls { self.encrypt(stream, &uri).await } else { Ok(stream) }
    }

    /// A tunnel through a proxy.
    async fn tunnel(&self, via: &Via, uri: &Uri) -> Result<Stream, Error> {
        if !matches!(via.uri.scheme_str(), Some("http" | "https")) {
            let text = "only proxies with http:// or https:// are supported";
            return Err(via.failed(&io::Error::other(text)));
        }
        // To the proxy itself without ALPN, which is about the server behind it.
        let tls = self.tls.config().await.map(|tls| {
            let mut config = (*tls).clone();
            config.alpn_protocols.clear();
            Arc::new(config)
        });
        let mut tunnel = Tunnel::new(via.uri.clone(), Self { proxy: None, tls: tls.into(), ..self.clone() });
        if let Some(value) = &via.authorization {
            tunnel = tunnel.with_auth(value.clone());
        }
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        let target = format!("http://{}:{port}", uri.host().unwrap_or_default());
        let target = target.parse().map_err(|e| via.failed(&e))?;
        tunnel.call(target).await.map_err(|e| via.failed(&e))
    }

    async fn encrypt(&self, stream: Stream, uri: &Uri) -> Result<Stream, Error> {
        let Some(config) = self.tls.config().await else {
            return Err(Error::Tls(format!("{uri}: https:// without a TLS configuration")));
        };
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|e| Error::Tls(format!("{host}: {e}")))?;
        let tls = TlsConnector::from(config.clone());
        let stream = tls.connect(name, TokioIo::new(stream)).await.map_err(|e| untrusted(host, &e))?;
        let offered = &config.alpn_protocols;
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

impl Via {
    /// Whether it is spoken to without TLS.
    fn is_plain(&self) -> bool {
        self.uri.scheme_str() == Some("http")
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::Connect(io::Error::other(format!("the proxy {}: {}", self.address(), chain(error))))
    }
}

async fn dial(connect: &HttpConnector, uri: &Uri) -> Result<Stream, Error> {
    let stream = connect.clone().call(uri.clone()).await.map_err(|e| Error::Connect(unwrapped(&e)))?;
    Ok(Stream { io: Box::new(stream), is_forwarded: false })
}

/// Why the handshake failed, in words that lead to a remedy.
fn untrusted(host: &str, error: &io::Error) -> Error {
    use rustls::{CertificateError as Bad, Error as Rustls};
    let text = chain(error);
    let cause = error.get_ref().and_then(|e| e.downcast_ref::<Rustls>());
    let why = match cause {
        Some(Rustls::InvalidCertificate(Bad::UnknownIssuer | Bad::Other(_))) => {
            "its certificate is self-signed, or its authority is not trusted by this machine"
        }
        Some(Rustls::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. })) => {
            "its certificate has expired, or this machine's clock is wrong"
        }
        Some(Rustls::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. })) => {
            "its certificate is not valid yet, or this machine's clock is wrong"
        }
        Some(Rustls::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. })) => {
            "its certificate is for another name"
        }
        Some(Rustls::InvalidMessage(_)) => "it does not speak TLS; is it an http:// address?",
        _ => return Error::Tls(text),
    };
    Error::Tls(format!("{host}: {why} ({text})"))
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
pub struct Stream {
    io: Box<dyn Io>,
    /// Whether a proxy is at the other end, to which requests name their whole URI.
    is_forwarded: bool,
}

trait Io: Read + Write + Unpin + Send {}
impl<T: Read + Write + Unpin + Send> Io for T {}

impl Stream {
    pub(crate) fn new(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        Self { io: Box::new(TokioIo::new(stream)), is_forwarded: false }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_forwarded)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bytes)
    }
}
