//! Both ways over TLS, with an authority that the test founds.

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
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::{OtlpConfig, Settings};
use crate::env::Env;
use crate::transport::{self, Outcome};

/// A server that answers every request with success in either protocol, and its authority's file.
struct Server {
    address: SocketAddr,
    authority: PathBuf,
    _directory: TempDir,
}

/// An authority, and a certificate for this host by it.
fn found() -> (String, ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let host = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = host.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (authority.pem(), config)
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
    let (authority, config) = found();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("authority.pem");
    fs::write(&path, authority).unwrap();
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
        let trusting = transport::to(&settings(&server, protocol, true)).unwrap();
        let outcome = trusting.send(ExportMetricsServiceRequest::default()).await;
        assert!(matches!(outcome, Outcome::Accepted { rejected: 0, .. }), "{protocol}: {outcome:?}");

        let doubting = transport::to(&settings(&server, protocol, false)).unwrap();
        let outcome = doubting.send(ExportMetricsServiceRequest::default()).await;
        let Outcome::Later { cause, .. } = &outcome else { panic!("{protocol}: {outcome:?}") };
        assert!(cause.contains("certificate"), "{protocol}: {cause}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for path in [empty, directory.path().join("absent.pem")] {
        let files = TlsFiles { authority: Some(path.clone()), identity: None };
        let message = for_http(&files).unwrap_err().to_string();
        assert!(
            message.starts_with(path.to_str().unwrap()) && message.contains("OTEL_EXPORTER_OTLP"),
            "{message}"
        );
    }
}
