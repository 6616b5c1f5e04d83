//! The client against servers on real sockets: trust, limits, redirects, unix sockets, reused connections.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use wattrace_http::testing::{Authority, self_signed, write_key};
use wattrace_http::{
    BlockingClient, Client, ClientTls, Connector, Error, Identity, Limits, PemFile, ServerTls, TlsError,
    Trust,
};

const LIMITS: Limits = Limits { time: Duration::from_secs(20), bytes: 100 };

/// Answers by path: `/long` 200 bytes, `/moved` a redirect to `/`, `/never` not at all, others `ok`.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = match request.uri().path() {
        "/long" => Response::new(Full::from(vec![b'x'; 200])),
        "/moved" => Response::builder().status(302).header("location", "/").body(Full::default()).unwrap(),
        "/never" => std::future::pending().await,
        _ => Response::new(Full::from("ok")),
    };
    Ok(response)
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let server = hyper::server::conn::http1::Builder::new();
    _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

/// Serves on loopback; returns its address and the number of connections so far.
async fn tcp(tls: Option<Arc<ServerConfig>>) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicU32::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            match tls.clone().map(TlsAcceptor::from) {
                None => drop(tokio::spawn(serve(stream))),
                Some(tls) => drop(tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream).await;
                    }
                })),
            }
        }
    });
    (address, connections)
}

fn get(uri: &str) -> Request<Bytes> {
    Request::get(uri).body(Bytes::new()).unwrap()
}

fn client(trust: Trust) -> Client {
    Client::new(Some(ClientTls { trust, identity: None }.config(&[]).unwrap()), LIMITS)
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_or_without_a_check() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(), Authority::new());
    let (address, _) = tcp(Some(ours.server("127.0.0.1", b"http/1.1"))).await;
    let uri = format!("https://{address}/");
    for trust in [Trust::Authority(ours.write(directory.path(), "ours.pem")), Trust::Anyone] {
        let answer = client(trust).send(get(&uri)).await.unwrap();
        assert_eq!((answer.status.as_u16(), &answer.body.unwrap()[..]), (200, &b"ok"[..]));
    }
    for trust in [Trust::Authority(others.write(directory.path(), "others.pem")), Trust::System] {
        let error = client(trust).send(get(&uri)).await.unwrap_err();
        assert!(matches!(&error, Error::Tls(text) if text.contains("certificate")), "{error:?}");
    }
    let error = Client::new(None, LIMITS).send(get(&uri)).await.unwrap_err();
    assert!(matches!(&error, Error::Tls(text) if text.contains("without a TLS configuration")), "{error:?}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_named_as_such_and_trusted_if_it_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let (server, file) = self_signed(directory.path(), "self", "127.0.0.1");
    let (address, _) = tcp(Some(server.clone())).await;
    let uri = format!("https://{address}/");
    let error = client(Trust::System).send(get(&uri)).await.unwrap_err();
    assert!(matches!(&error, Error::Tls(text) if text.contains("127.0.0.1: its certificate is self-signed")));
    let answer = client(Trust::Authority(file.clone())).send(get(&uri)).await.unwrap();
    assert_eq!(answer.body.unwrap(), "ok");
    let (_, other) = self_signed(directory.path(), "other", "127.0.0.1");
    assert!(matches!(client(Trust::Authority(other)).send(get(&uri)).await, Err(Error::Tls(_))));
    let elsewhere = format!("https://localhost:{}/", address.rsplit(':').next().unwrap());
    let error = client(Trust::Authority(file)).send(get(&elsewhere)).await.unwrap_err();
    assert!(matches!(&error, Error::Tls(text) if text.contains("for another name")), "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_reported_as_such() {
    let (address, _) = tcp(None).await;
    let error = client(Trust::System).send(get(&format!("https://{address}/"))).await.unwrap_err();
    assert!(matches!(&error, Error::Tls(text) if text.contains("does not speak TLS")), "{error:?}");
}

#[tokio::test]
async fn a_server_may_ask_for_the_clients_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let trust = authority.write(directory.path(), "authority.pem");
    let server = ServerTls {
        identity: authority.issue(directory.path(), "server", "127.0.0.1"),
        client_authority: Some(trust.clone()),
    };
    let (address, _) = tcp(Some(server.config(b"http/1.1").unwrap())).await;
    let uri = format!("https://{address}/");
    let identity = Some(authority.issue(directory.path(), "client", "node-1"));
    for (identity, is_let_in) in [(identity, true), (None, false)] {
        let tls = ClientTls { trust: Trust::Authority(trust.clone()), identity };
        let answer = Client::new(Some(tls.config(&[]).unwrap()), LIMITS).send(get(&uri)).await;
        assert_eq!(answer.is_ok(), is_let_in, "{answer:?}");
    }
}

#[tokio::test]
async fn a_grpc_client_refuses_a_server_without_http2() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let trust = Trust::Authority(authority.write(directory.path(), "authority.pem"));
    let tls = ClientTls { trust, identity: None }.config(&[b"h2"]).unwrap();
    let mut server = (*authority.server("127.0.0.1", b"h2")).clone();
    for (protocols, is_good) in [(vec![b"h2".to_vec()], true), (Vec::new(), false)] {
        server.alpn_protocols = protocols;
        let (address, _) = tcp(Some(Arc::new(server.clone()))).await;
        let uri: Uri = format!("https://{address}/").parse().unwrap();
        let connected = Connector::tcp(Some(tls.clone()), LIMITS.time).call(uri).await;
        match connected {
            Ok(_) => assert!(is_good),
            Err(error) => assert!(!is_good && error.to_string().contains("HTTP/2"), "{error}"),
        }
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_a_long_body_costs_only_the_body() {
    let (address, connections) = tcp(None).await;
    let client = Client::new(None, LIMITS);
    let moved = client.send(get(&format!("http://{address}/moved"))).await.unwrap();
    assert_eq!((moved.status.as_u16(), moved.header("location")), (302, Some("/")));
    client.send(get(&format!("http://{address}/"))).await.unwrap().body.unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 1, "the connection is kept open");
    let long = client.send(get(&format!("http://{address}/long"))).await.unwrap();
    assert_eq!(long.status.as_u16(), 200);
    assert!(matches!(long.body, Err(Error::TooLong(100))));
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let (address, _) = tcp(None).await;
    let limits = Limits { time: Duration::from_millis(50), ..LIMITS };
    let error = Client::new(None, limits).send(get(&format!("http://{address}/never"))).await.unwrap_err();
    assert!(matches!(error, Error::Timeout(limit) if limit == limits.time), "{error:?}");
}

#[tokio::test]
async fn a_unix_socket_answers_and_an_absent_one_differs_from_a_broken_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("engine.sock");
    let kind = async |path: PathBuf| match Client::unix(path, LIMITS).send(get("http://localhost/")).await {
        Err(Error::Connect(e)) => e.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(path.clone()).await, ErrorKind::NotFound);
    let listener = UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    let answer = Client::unix(path.clone(), LIMITS).send(get("http://localhost/x")).await.unwrap();
    assert_eq!(answer.body.unwrap(), "ok");
    server.abort();
    _ = server.await;
    assert_eq!(kind(path).await, ErrorKind::ConnectionRefused);
}

#[test]
fn a_blocking_client_works_on_a_thread_that_drives_a_runtime() {
    let workers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (address, _) = workers.block_on(tcp(None));
    let client = BlockingClient::new(Client::new(None, LIMITS), workers.handle().clone());
    let own = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = own.block_on(async { client.send(get(&format!("http://{address}/"))) });
    assert_eq!(answer.unwrap().body.unwrap(), "ok");
    workers.shutdown_background();
    assert!(client.send(get("http://localhost:1/")).is_err(), "the runtime has shut down");
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_role() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let authority = Authority::new();
    let good = authority.issue(directory.path(), "good", "localhost");
    std::fs::write(path("empty.pem"), "").unwrap();
    let other_key = write_key(directory.path(), "other.key");
    let file = |error: TlsError| match error {
        TlsError::File { file, path, problem } => (file, path, problem),
        other => panic!("{other}"),
    };
    let client = |path: &Path| {
        let tls = ClientTls { trust: Trust::Authority(path.to_owned()), identity: None };
        file(tls.config(&[]).unwrap_err())
    };
    assert_eq!(client(&path("absent.pem")).0, PemFile::Authority);
    assert!(client(&path("empty.pem")).2.contains("holds no certificate"));
    let server = |certificate: &Path, key: &Path| {
        let identity = Identity { certificate: certificate.to_owned(), key: key.to_owned() };
        file(ServerTls { identity, client_authority: None }.config(b"h2").unwrap_err())
    };
    assert_eq!(server(&path("absent.pem"), &good.key).0, PemFile::Certificate);
    assert_eq!(server(&good.certificate, &path("absent.key")).0, PemFile::Key);
    let (role, named, problem) = server(&good.certificate, &other_key);
    assert_eq!((role, named), (PemFile::Certificate, good.certificate.clone()));
    assert!(problem.contains("does it belong to"), "{problem}");
}
