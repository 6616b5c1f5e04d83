//! The client and the connector behind a proxy on a real socket: what is forwarded, what goes through a
//! tunnel.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Request, Uri};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use wattrace_http::testing::Authority;
use wattrace_http::{Client, ClientTls, Connector, Limits, Proxy, Trust};

const LIMITS: Limits = Limits { time: Duration::from_secs(20), bytes: 100 };
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A proxy that knows only one server, whatever its name is. Returns its address and the heads of all
/// requests.
async fn proxy(server: String, answer: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = heads.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (server, seen) = (server.clone(), seen.clone());
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert!(stream.read_line(&mut head).await.unwrap() > 0);
                }
                let is_tunnel = head.starts_with("CONNECT ");
                seen.lock().unwrap().push(head);
                if !is_tunnel {
                    stream.write_all(OK).await.unwrap();
                    return;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                let mut server = TcpStream::connect(server).await.unwrap();
                _ = copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    (address, heads)
}

/// A server with TLS that answers every request.
async fn server(authority: &Authority) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = TlsAcceptor::from(authority.server("otlp.example", b"http/1.1"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            _ = stream.read(&mut request).await;
            _ = stream.write_all(OK).await;
        }
    });
    address
}

fn through(variable: &'static str, address: &str) -> Proxy {
    let value = format!("http://user:hush@{address}");
    Proxy::from_variables(move |name| (name == variable).then(|| value.clone()))
}

fn get(uri: &str) -> Request<Bytes> {
    Request::get(uri).body(Bytes::new()).unwrap()
}

#[tokio::test]
async fn tls_goes_through_a_tunnel_that_the_proxy_cannot_read() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let trust = Trust::Authority(authority.write(directory.path(), "authority.pem"));
    let tls = ClientTls { trust, identity: None }.config(&[]).unwrap();
    let (address, heads) = proxy(server(&authority).await, "HTTP/1.1 200 OK\r\n\r\n").await;
    let client = Client::proxied(Some(tls), LIMITS, through("HTTPS_PROXY", &address));
    let answer = client.send(get("https://otlp.example/v1/metrics?secret")).await.unwrap();
    assert_eq!(answer.body.unwrap(), "ok");
    let head = heads.lock().unwrap().remove(0);
    assert!(head.starts_with("CONNECT otlp.example:443 HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("Proxy-Authorization: Basic dXNlcjpodXNo\r\n") && !head.contains("secret"),
        "{head}"
    );
}

#[tokio::test]
async fn a_request_without_tls_is_forwarded_and_a_connection_of_grpc_goes_through_a_tunnel() {
    let (address, heads) = proxy("127.0.0.1:1".to_owned(), "HTTP/1.1 200 OK\r\n\r\n").await;
    let client = Client::proxied(None, LIMITS, through("HTTP_PROXY", &address));
    assert_eq!(client.send(get("http://otlp.example/x")).await.unwrap().body.unwrap(), "ok");
    let head = heads.lock().unwrap().remove(0);
    assert!(head.starts_with("GET http://otlp.example/x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: Basic dXNlcjpodXNo\r\n"), "{head}");

    let mut connector = Connector::tcp(None, LIMITS.time).through(through("HTTP_PROXY", &address));
    connector.call(Uri::from_static("http://otlp.example")).await.map(drop).unwrap();
    let head = heads.lock().unwrap().remove(0);
    assert!(head.starts_with("CONNECT otlp.example:80 HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    let (address, _) = proxy("127.0.0.1:1".to_owned(), "HTTP/1.1 407 Who?\r\n\r\n").await;
    for (address, part) in [(address.as_str(), "authorization required"), ("127.0.0.1:1", "refused")] {
        let tls = ClientTls { trust: Trust::Anyone, identity: None }.config(&[]).unwrap();
        let client = Client::proxied(Some(tls), LIMITS, through("HTTPS_PROXY", address));
        let error = client.send(get("https://otlp.example/")).await.unwrap_err().to_string();
        assert!(error.contains(&format!("the proxy http://{address}")) && error.contains(part), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}
