//! Who gets an answer from the server, and with which headers.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use wattrace_page::{About, Document, History, Server, Source, summarise};

struct Fixed;

impl Source for Fixed {
    fn document(&self, span: Option<[u64; 2]>) -> Result<Document, String> {
        if span == Some([1000, 2000]) {
            return Err("no such time".to_owned());
        }
        Ok(summarise(&History::default(), &About { title: "t".into(), ..About::default() }))
    }
}

/// Address and path of a server that runs as long as the runtime.
fn served() -> (tokio::runtime::Runtime, String, String) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(async { Server::bind(0).unwrap() });
    let url = server.url();
    runtime.spawn(server.serve(Arc::new(Fixed)));
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    (runtime, address.to_owned(), format!("/{path}"))
}

fn ask(address: &str, method: &str, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[test]
fn only_who_knows_the_address_and_names_this_machine_gets_the_page() {
    let (_runtime, address, path) = served();
    assert_eq!(path.len(), "/0123456789abcdef0123456789abcdef/".len());
    let page = ask(&address, "GET", &path, &address);
    assert_eq!(status(&page), "200");
    for header in [
        "content-security-policy: default-src 'none'; script-src 'nonce-",
        "frame-ancestors 'none'",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
    ] {
        assert!(page.contains(header), "{header}: {page:.600}");
    }
    let zeros = format!("/{}/", "0".repeat(32));
    for (method, path, host, expected) in [
        ("GET", "/", &*address, "404"),
        ("GET", &*zeros, &*address, "404"),
        ("GET", &format!("{path}data/"), &*address, "404"),
        ("GET", &*path, "rebound.example:80", "421"),
        ("POST", &*path, &*address, "405"),
    ] {
        let answer = ask(&address, method, path, host);
        assert_eq!(status(&answer), expected, "{method} {path} {host}");
        assert!(!answer.contains("<html"), "{answer}");
    }
    // Through `ssh -L`, whose port is another one.
    assert_eq!(status(&ask(&address, "GET", &path, "localhost:9")), "200");
}

#[test]
fn a_document_is_json_and_an_error_says_why() {
    let (_runtime, address, path) = served();
    let document = ask(&address, "GET", &format!("{path}data"), &address);
    let (head, body) = document.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    let json: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((json["schema"].as_str(), json["title"].as_str()), (Some("wattrace.view/1"), Some("t")));
    let failed = ask(&address, "GET", &format!("{path}data?from_us=1&to_us=2"), &address);
    assert_eq!(status(&failed), "500");
    assert!(failed.ends_with("no such time"), "{failed}");
}
