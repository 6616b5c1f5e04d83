//! Both protocols over TLS, with an authority of the test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use wattrace_http::ServerTls;
use wattrace_http::testing::Authority;

use super::*;
use crate::config::{Config, Settings};
use crate::connect;
use crate::env::Env;
use crate::env::tests::METRICS;
use crate::transport::{Outcome, Problem};

/// A server that answers every request with success in either protocol, and its authority's file.
struct Server {
    address: SocketAddr,
    authority: PathBuf,
    _directory: TempDir,
}

/// An empty message of success: framed by five bytes and followed by its status for gRPC, nothing for HTTP.
async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let kind = request.headers()["content-type"].clone();
    let body = if kind == "application/grpc" {
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from(0))]);
        Full::from(&[0; 5][..]).with_trailers(async { Some(Ok(trailers)) }).boxed()
    } else {
        Full::default().boxed()
    };
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", kind);
    Ok(response)
}

/// Serves with the present value of `tls`; a change of it closes the connections.
async fn serve_as(tls: watch::Receiver<Arc<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut tls = tls.clone();
            let acceptor = TlsAcceptor::from(tls.borrow_and_update().clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = hyper::service::service_fn(answer);
                let server = Builder::new(TokioExecutor::new());
                tokio::select! {
                    _ = server.serve_connection(TokioIo::new(stream), service) => {}
                    _ = tls.changed() => {}
                }
            });
        }
    });
    address
}

async fn serve() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let path = authority.write(directory.path(), "authority.pem");
    // The sender stays for as long as the test's runtime.
    let (sender, tls) = watch::channel(both_versions(authority.server("127.0.0.1", b"h2")));
    let address = serve_as(tls).await;
    tokio::spawn(async move { sender.closed().await });
    Server { address, authority: path, _directory: directory }
}

/// `config` for HTTP/1.1 too.
fn both_versions(config: Arc<ServerConfig>) -> Arc<ServerConfig> {
    let mut config = (*config).clone();
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Arc::new(config)
}

fn settings(server: &Server, protocol: &str, authority: bool) -> Settings {
    let path = server.authority.display().to_string();
    let lookup =
        move |name: &str| (authority && name == "OTEL_EXPORTER_OTLP_CERTIFICATE").then(|| path.clone());
    let config = Config {
        endpoint: format!("https://{}", server.address),
        protocol: protocol.to_owned(),
        ..Config::default()
    };
    Settings::resolve(config, &Env::new(METRICS, &lookup)).unwrap()
}

#[tokio::test]
async fn a_collector_is_trusted_by_the_authority_in_the_environment_and_not_without() {
    let server = serve().await;
    for protocol in ["grpc", "http/protobuf"] {
        let trusting = connect(&settings(&server, protocol, true)).unwrap();
        let outcome = trusting.send(Bytes::new()).await;
        assert!(matches!(outcome, Outcome::Accepted { rejected: 0, .. }), "{protocol}: {outcome:?}");

        let doubting = connect(&settings(&server, protocol, false)).unwrap();
        let outcome = doubting.send(Bytes::new()).await;
        let Outcome::Unreached { cause, problem: Problem::Tls } = &outcome else {
            panic!("{protocol}: {outcome:?}")
        };
        assert!(cause.contains("its certificate is self-signed, or"), "{protocol}: {cause}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    for path in [empty, directory.path().join("absent.pem")] {
        let files = TlsFiles { authority: Some(path.clone()), identity: None };
        let message = client(&files, &[], METRICS).map(drop).unwrap_err().to_string();
        assert!(
            message.starts_with(path.to_str().unwrap()) && message.contains("OTEL_EXPORTER_OTLP"),
            "{message}"
        );
    }
}

/// A server whose certificate is from `authority` and that wants the client's to be from there too.
fn mutual(authority: &Authority, directory: &Path) -> Arc<ServerConfig> {
    let client_authority = Some(authority.write(directory, "clients.pem"));
    let identity = authority.issue(directory, "server", "127.0.0.1");
    both_versions(ServerTls { identity, client_authority }.config(b"h2").unwrap())
}

#[tokio::test]
async fn certificates_of_both_sides_are_replaced_without_a_lost_request() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    for protocol in ["grpc", "http/protobuf"] {
        let (sender, tls) = watch::channel(mutual(&old, directory.path()));
        let address = serve_as(tls).await;
        let identity = old.issue(directory.path(), "own", "agent");
        let config = Config {
            endpoint: format!("https://{address}"),
            protocol: protocol.to_owned(),
            certificate: old.write(directory.path(), "authority.pem"),
            client_certificate: identity.certificate,
            client_key: identity.key,
            ..Config::default()
        };
        let settings = Settings::resolve(config, &Env::new(METRICS, &|_| None)).unwrap();
        let transport = connect(&settings).unwrap();
        let is_accepted = |outcome: &Outcome| matches!(outcome, Outcome::Accepted { .. });
        let outcome = transport.send(Bytes::new()).await;
        assert!(is_accepted(&outcome), "{protocol}: {outcome:?}");

        new.issue(directory.path(), "own", "agent");
        new.write(directory.path(), "authority.pem");
        let outcome = transport.send(Bytes::new()).await;
        assert!(is_accepted(&outcome), "{protocol}: the open connection goes on: {outcome:?}");

        // The server has its new certificate too, and closes its connections.
        sender.send(mutual(&new, directory.path())).unwrap();
        let mut outcomes = Vec::new();
        while !outcomes.last().is_some_and(is_accepted) && outcomes.len() < 20 {
            outcomes.push(transport.send(Bytes::new()).await);
        }
        // A request on the connection that is just being closed is one that is sent again.
        let is_again =
            |outcome: &Outcome| matches!(outcome, Outcome::Unreached { problem: Problem::Exchange, .. });
        let (last, before) = outcomes.split_last().unwrap();
        assert!(is_accepted(last) && before.iter().all(is_again), "{protocol}: {outcomes:?}");
    }
}
