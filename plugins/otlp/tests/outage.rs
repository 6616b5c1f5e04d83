//! Outages, limits and odd answers of collectors and of the proxies before them: afterwards no joule is
//! missing, or the points that are were counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::time::Duration;

use common::machine::Machine;
use common::process;
use common::server::{Answer, Server};
use wattrace_api::Attribute;

const PROTOCOLS: [&str; 2] = ["grpc", "http/protobuf"];

/// What lasts as long as the outage.
fn outages() -> Vec<(&'static str, Answer)> {
    let wait = |seconds: &str| vec![("retry-after", seconds.to_owned())];
    let empty = |status| Answer { status, headers: Vec::new(), body: Vec::new() };
    vec![
        ("502 with a page", Answer::page(502)),
        ("503 with a page", Answer::page(503)),
        ("504 with a page", Answer::page(504)),
        ("429 with a page", Answer::page(429)),
        ("522 with a page", Answer::page(522)),
        ("503 without a body", empty(503)),
        ("503 with JSON", Answer::new(503, "application/json", "{\"message\":\"restarting\"}")),
        ("408 with text", Answer::new(408, "text/plain", "slow")),
        ("429 for an hour", empty(429).with(wait("3600"))),
        ("503 until 2099", Answer::page(503).with(wait("Thu, 31 Dec 2099 23:59:59 GMT"))),
        ("503 for longer than the universe", empty(503).with(wait("99999999999999999999999999"))),
        ("503 for nonsense", empty(503).with(wait("soon"))),
    ]
}

#[test]
fn after_an_outage_behind_a_proxy_no_joule_is_missing() {
    for protocol in PROTOCOLS {
        for (name, answer) in outages() {
            let server = Server::start();
            let mut machine = Machine::start(&server, protocol, |_| {});
            machine.fork(5);
            machine.second(1);
            machine.fixture.flush().unwrap();
            server.answers(move |_| Some(answer.clone()));
            for _ in 0..20 {
                machine.fork(3);
                machine.second(3);
                std::thread::sleep(Duration::from_millis(1));
            }
            machine.second(0);
            machine.notices_trouble();
            server.answers(|_| None);
            let waited = machine.recover(&server);
            assert!(waited <= Duration::from_secs(62), "{protocol}, {name}: {waited:?}");
            machine.fixture.flush().unwrap();
            assert_eq!(machine.fixture.losses(), [], "{protocol}, {name}");
        }
    }
}

/// Limits of 20 kB: what a request above it is answered with.
fn limits() -> Vec<(&'static str, &'static str, Answer)> {
    let grpc = |code, message| Answer::grpc(code, message);
    vec![
        ("http/protobuf", "nginx", Answer::page(413)),
        ("http/protobuf", "a collector", Answer::new(413, "text/plain", "request body too large")),
        ("grpc", "nginx", Answer::page(413)),
        ("grpc", "grpc-go", grpc(8, "grpc: received message larger than max (30000 vs. 20000)")),
        ("grpc", "tonic", grpc(11, "Error, decoded message length too large")),
        ("grpc", "other words", grpc(8, "no")),
    ]
}

#[test]
fn a_limit_on_the_size_of_requests_loses_nothing_and_is_remembered() {
    for (protocol, name, answer) in limits() {
        let server = Server::start();
        server.answers(move |bytes| (bytes > 20_000).then(|| answer.clone()));
        let mut machine = Machine::start(&server, protocol, |_| {});
        machine.fork(300);
        machine.second(150);
        machine.fixture.flush().unwrap();
        let refused = server.seen.lock().unwrap().refused.len();
        assert!((1..=8).contains(&refused), "{protocol}, {name}: {refused} requests refused");
        assert_eq!(server.seen.lock().unwrap().joules(), machine.truth, "{protocol}, {name}");
        machine.fork(100);
        machine.second(100);
        machine.fixture.flush().unwrap();
        let seen = server.seen.lock().unwrap();
        assert_eq!((seen.joules(), seen.refused.len()), (machine.truth, refused), "{protocol}, {name}");
        assert!(seen.taken.iter().all(|&bytes| bytes <= 20_000), "{:?}", seen.taken);
        drop(seen);
        assert_eq!(machine.fixture.losses(), [], "{protocol}, {name}");
    }
}

#[test]
fn a_point_that_is_too_large_by_itself_is_counted_and_takes_no_other_with_it() {
    for (protocol, name, answer) in limits() {
        let server = Server::start();
        server.answers(move |bytes| (bytes > 20_000).then(|| answer.clone()));
        let mut machine = Machine::start(&server, protocol, |_| {});
        let large = process(1, "large");
        large.update(vec![Attribute::new("process.command_line", "x".repeat(30_000))]);
        machine.fork(40);
        let large = machine.fixture.energy(Some(large));
        machine.live.push((large, 0));
        machine.second(41);
        machine.fixture.flush().unwrap();
        assert_eq!(machine.fixture.losses(), [("too_large", 1)], "{protocol}, {name}");
        assert_eq!(server.seen.lock().unwrap().joules(), 40.0, "{protocol}, {name}");
    }
}

#[test]
fn a_collector_that_finds_everything_too_large_costs_few_requests() {
    let server = Server::start();
    server.answers(|_| Some(Answer::grpc(8, "quota exceeded")));
    let mut machine = Machine::start(&server, "grpc", |_| {});
    machine.fork(1000);
    machine.second(1000);
    assert!(machine.fixture.flush().unwrap_err().to_string().contains("quota exceeded"));
    assert_eq!(machine.fixture.losses(), [("refused", 1000)]);
    let requests = server.seen.lock().unwrap().refused.len();
    assert!(requests < 30, "{requests} requests");
}

#[test]
fn what_a_partial_success_rejects_is_counted_in_any_form_and_never_more_than_was_sent() {
    let json = |number: &str| {
        let body = format!(
            "{{\"partialSuccess\":{{\"rejectedDataPoints\":{number},\"errorMessage\":\"{}\"}}}}",
            "out of order; ".repeat(6_000)
        );
        Answer::new(200, "application/json", body)
    };
    let protobuf = |count: i64, length: usize| {
        use opentelemetry_proto::tonic::collector::metrics::v1 as proto;
        use prost::Message;
        let partial = proto::ExportMetricsPartialSuccess {
            rejected_data_points: count,
            error_message: "x".repeat(length),
        };
        let body = proto::ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        Answer::new(200, "application/x-protobuf", body)
    };
    for (answer, lost) in [
        (json("\"5\""), 5),
        (json("5"), 5),
        (json("\"99999999999999999999\""), 10),
        (protobuf(3, 10), 3),
        (protobuf(3, 300_000), 3),
        (protobuf(i64::MAX, 10), 10),
        (protobuf(3, 5_000_000), 10),
        (protobuf(-1, 10), 0),
    ] {
        let server = Server::start();
        server.answers(move |_| Some(answer.clone()));
        let mut machine = Machine::start(&server, "http/protobuf", |_| {});
        machine.fork(10);
        machine.second(0);
        assert_eq!(machine.fixture.flush().is_err(), lost == 10, "all points are rejected");
        let expected = Vec::from_iter((lost > 0).then_some(("rejected", lost)));
        assert_eq!(machine.fixture.losses(), expected);
        assert_eq!(server.seen.lock().unwrap().taken.len(), 1, "it is not sent again");
    }
}

#[test]
fn a_refusal_in_text_is_counted_once_and_not_sent_again() {
    let server = Server::start();
    server.answers(|_| Some(Answer::new(400, "text/plain", "out of order sample: t=17")));
    let mut machine = Machine::start(&server, "http/protobuf", |_| {});
    machine.fork(2);
    machine.second(2);
    assert!(machine.fixture.flush().is_err());
    assert_eq!(machine.fixture.losses(), [("refused", 2)]);
    let trouble = machine.fixture.rig.outputs[0].1.trouble().unwrap().to_owned();
    assert!(trouble.contains("400 Bad Request: out of order sample: t=17"), "{trouble}");
    assert!(machine.fixture.flush().is_err());
    assert_eq!(server.seen.lock().unwrap().refused.len(), 1);
}

#[test]
fn user_and_password_of_the_endpoint_arrive_as_basic_authentication_and_are_not_shown() {
    for protocol in PROTOCOLS {
        let server = Server::start();
        let mut machine = Machine::start(&server, protocol, |config| {
            config.endpoint = format!("{}/x?tenant=7", config.endpoint.replace("//", "//user:h%40sh@"));
        });
        machine.fork(1);
        machine.second(0);
        machine.fixture.flush().unwrap();
        let (headers, uri) = {
            let seen = server.seen.lock().unwrap();
            (seen.headers.clone(), seen.uri.clone())
        };
        assert_eq!(headers["authorization"], "Basic dXNlcjpoQHNo", "{protocol}");
        assert!(!uri.contains('@'), "{uri}");
        if protocol != "grpc" {
            assert_eq!(uri, "/x/v1/metrics?tenant=7");
        }
        server.answers(|_| Some(Answer::page(503)));
        machine.second(0);
        let error = machine.fixture.flush().unwrap_err().to_string();
        assert!(
            !error.contains("h%40sh") && !error.contains("h@sh") && !error.contains("tenant=7"),
            "{error}"
        );
    }
}
