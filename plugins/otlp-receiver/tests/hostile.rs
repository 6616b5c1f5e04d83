//! Senders that mean no good, or are broken: slow ones, ones that hold connections open, messages that unpack
//! to more than they are, attributes without end. Good senders go on, memory stays bounded, and what is
//! refused is counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use common::requests::{post, request, text};
use common::{Gateway, J, Sender};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use wattrace_api::Secret;

const SECOND: Duration = Duration::from_secs(1);

/// Connects and sends the beginning of a request.
fn begin(address: &str, bytes: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(bytes).ok()?;
    Some(stream)
}

#[test]
fn slow_connections_without_a_token_keep_no_good_sender_out() {
    for protocol in ["grpc", "http/protobuf"] {
        let mut gateway = Gateway::start(|config| {
            config.max_connections = 50;
            config.bearer_token = Secret("open-sesame".to_owned());
        });
        let address = if protocol == "grpc" { &gateway.config.grpc } else { &gateway.config.http };
        let first = if protocol == "grpc" {
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        } else {
            "POST /v1/metrics HTTP/1.1\r\n"
        };
        let slow: Vec<_> = (0..150).filter_map(|_| begin(address, first.as_bytes())).collect();
        assert!(slow.len() > 50, "{protocol}: {} connections", slow.len());
        let mut good = Sender::start(&gateway, protocol, "node-1", |config| {
            config.bearer_token = Secret("open-sesame".to_owned());
        });
        for joules in 1..=3 {
            good.send(SECOND, [joules * J, 0, 0]);
        }
        gateway.poll(SECOND);
        assert_eq!(gateway.counter("hw.energy", "node-1", &[]), Some(3 * J), "{protocol}");
        assert_eq!(good.losses(), [], "{protocol}");
        assert_eq!(gateway.own("wattrace.gateway.requests", "busy"), 0, "{protocol}");
    }
}

#[test]
fn slow_bodies_keep_no_good_sender_out() {
    let mut gateway = Gateway::start(|_| {});
    let head = "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n\
                Content-Length: 4000000\r\n\r\nx";
    let _slow: Vec<_> = (0..100).filter_map(|_| begin(&gateway.config.http, head.as_bytes())).collect();
    let mut good = Sender::start(&gateway, "http/protobuf", "node-1", |_| {});
    good.send(SECOND, [5 * J, 0, 0]);
    gateway.poll(SECOND);
    assert_eq!(gateway.counter("hw.energy", "node-1", &[]), Some(5 * J));
    assert_eq!(gateway.own("wattrace.gateway.requests", "busy"), 0);
}

#[test]
fn a_message_that_unpacks_to_more_than_it_is_is_refused_and_counted() {
    let mut gateway = Gateway::start(|_| {});
    let (status, body) = post(&gateway.config.http, &[0x0a, 0].repeat(2_000_000));
    assert_eq!(status, 413);
    assert!(String::from_utf8_lossy(&body).contains("unpacks to"), "{body:?}");
    assert_eq!(post(&gateway.config.http, &[0x0a, 0].repeat(1000)).0, 200);
    assert_eq!(gateway.own("wattrace.gateway.requests", "too_large"), 1);
}

#[test]
fn a_message_that_is_too_large_is_counted_over_both_protocols() {
    for protocol in ["grpc", "http/protobuf"] {
        let mut gateway = Gateway::start(|config| config.max_message = 100);
        Sender::start(&gateway, protocol, "node-2", |_| {}).try_send(SECOND, [J, J, J]);
        assert!(gateway.own("wattrace.gateway.requests", "too_large") > 0, "{protocol}");
    }
}

fn rejected(answer: &(u16, Vec<u8>)) -> i64 {
    assert_eq!(answer.0, 200);
    let answer = ExportMetricsServiceResponse::decode(&*answer.1).unwrap();
    answer.partial_success.unwrap_or_default().rejected_data_points
}

#[test]
fn attributes_that_are_too_long_are_refused_and_counted() {
    let mut gateway = Gateway::start(|_| {});
    let good = text("k", "v".repeat(4000));
    let long = text("k", "v".repeat(40_000));
    assert_eq!(rejected(&post(&gateway.config.http, &request("a", [good, long.clone()]))), 1);
    assert_eq!(
        rejected(&post(&gateway.config.http, &request(&"h".repeat(5000), [text("k", String::new())]))),
        1
    );
    assert_eq!(gateway.own("wattrace.gateway.points", "too_long"), 2);
    assert_eq!(gateway.own("wattrace.gateway.series", ""), 1);
}

#[test]
fn the_series_of_a_sender_and_of_all_senders_are_limited_in_bytes() {
    let mut gateway = Gateway::start(|config| config.max_memory = 2 * 1024 * 1024);
    let many = |from: usize| (from..from + 500).map(|n| text("k", format!("{n:04000}")));
    for host in ["a", "b"] {
        let refused = rejected(&post(&gateway.config.http, &request(host, many(0))));
        let expected = if host == "a" { 200..300 } else { 500..501 };
        assert!(expected.contains(&refused), "{host}: {refused} refused");
    }
    let counted = gateway.own("wattrace.gateway.points", "too_many_bytes");
    let series = gateway.own("wattrace.gateway.series", "");
    assert_eq!(counted + series, 1000);
    // When they have ended, there is room again.
    gateway.poll(Duration::from_secs(1000));
    gateway.forget_ended();
    assert_eq!(gateway.own("wattrace.gateway.series", ""), 0);
    assert!(rejected(&post(&gateway.config.http, &request("b", many(0)))) < 300);
}
