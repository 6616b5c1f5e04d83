//! Both protocols over TLS, with an authority of the test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use wattrace_http::testing::Authority;

use super::*;
use crate::config::{OtlpConfig, Settings};
use crate::connect;
use crate::env::Env;
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

async fn serve() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let path = authority.write(directory.path(), "authority.pem");
    let mut config = (*authority.server("127.0.0.1", b"h2")).clone();
    config.alpn_protocols.push(b"http/1.1".to_vec());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = hyper::service::service_fn(answer);
            tokio::spawn(async move {
                _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Server { address, authority: path, _directory: directory }
}

fn settings(server: &Server, protocol: &str, authority: bool) -> Settings {
    let path = server.authority.display().to_string();
    let lookup =
        move |name: &str| (authority && name == "OTEL_EXPORTER_OTLP_CERTIFICATE").then(|| path.clone());
    let config = OtlpConfig {
        endpoint: format!("https://{}", server.address),
        protocol: protocol.to_owned(),
        ..OtlpConfig::default()
    };
    Settings::resolve(config, Env(&lookup)).unwrap()
}

#[tokio::test]
async fn a_collector_is_trusted_by_the_authority_in_the_environment_and_not_without() {
    let server = serve().await;
    for protocol in ["grpc", "http/protobuf"] {
        let trusting = connect::connect(&settings(&server, protocol, true)).unwrap();
        let outcome = trusting.send(Bytes::new()).await;
        assert!(matches!(outcome, Outcome::Accepted { rejected: 0, .. }), "{protocol}: {outcome:?}");

        let doubting = connect::connect(&settings(&server, protocol, false)).unwrap();
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
        let message = client(&files, &[]).unwrap_err().to_string();
        assert!(
            message.starts_with(path.to_str().unwrap()) && message.contains("OTEL_EXPORTER_OTLP"),
            "{message}"
        );
    }
}
