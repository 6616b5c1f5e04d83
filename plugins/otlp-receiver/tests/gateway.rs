//! The gateway with this repository's own `otlp` output as the sender: two agents, both protocols, lost
//! requests, a pipeline that is behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::time::Duration;

use common::{Gateway, J, Sender, secured, unused_address};
use wattrace_otlp_receiver::{OtlpReceiver, OtlpReceiverConfig};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_totals_of_two_agents_arrive_exactly() {
    for protocol in ["grpc", "http/protobuf"] {
        let mut gateway = Gateway::start(|_| {});
        let mut senders = ["node-1", "node-2"].map(|host| Sender::start(&gateway, protocol, host, |_| {}));
        // Odd numbers of steps, up to the precision of a double in joules.
        let mut totals = [[0_u64; 3]; 2];
        for round in 1..=7_u64 {
            for (at, sender) in senders.iter_mut().enumerate() {
                for (n, total) in totals[at].iter_mut().enumerate() {
                    *total += (round * 123_456_789).pow(1 + n as u32 % 2) % 600_000_000_000_003 + at as u64;
                }
                sender.send(SECOND, totals[at]);
            }
            gateway.poll(SECOND);
        }
        gateway.until(|g| g.counter("hw.energy", "node-2", &[]) == Some(totals[1][0]));
        for (at, host) in ["node-1", "node-2"].into_iter().enumerate() {
            assert_eq!(gateway.counter("hw.energy", host, &[]), Some(totals[at][0]), "{protocol}");
            let consumer =
                |pid: &str| gateway.counter("wattrace.consumer.energy", host, &[("process.pid", pid)]);
            assert_eq!((consumer("101"), consumer("102")), (Some(totals[at][1]), Some(totals[at][2])));
        }
        assert_eq!(gateway.own("wattrace.gateway.sequence", "missing"), 0, "{protocol}");
        let accepted = gateway.own("wattrace.gateway.points", "taken");
        assert_eq!((accepted, gateway.own("wattrace.gateway.senders", "")), (2 * 7 * 3, 2));
    }
}

#[test]
fn a_series_keeps_its_attributes_and_ends_when_its_sender_ends_it() {
    let mut gateway = Gateway::start(|_| {});
    let mut sender = Sender::start(&gateway, "grpc", "node-1", |_| {});
    sender.send(SECOND, [J, J, J]);
    gateway.poll(SECOND);
    let attributes = gateway.attributes("wattrace.consumer.energy", &[("process.pid", "101")]);
    for (key, value) in [
        ("host.name", "node-1"),
        ("wattrace.domain", "package-0"),
        ("wattrace.origin", "simulated"),
        ("wattrace.consumer.type", "process"),
        ("process.executable.name", "first"),
    ] {
        assert_eq!(attributes.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(attributes.contains_key("service.instance.id") && !attributes.contains_key("os.type"));
    // What others used is not attributed here.
    assert!(gateway.rig.registry.domains().is_empty());

    sender.end_first(SECOND, 5 * J);
    gateway.until(|g| g.ended.len() == 1);
    assert_eq!(gateway.counter("wattrace.consumer.energy", "node-1", &[("process.pid", "101")]), Some(5 * J));
}

#[test]
fn lost_requests_are_counted_and_cumulative_values_catch_up() {
    let mut gateway = Gateway::start(|_| {});
    let proxy = common::Proxy::start(&gateway.config.http);
    let through = format!("http://{}", proxy.address);
    let mut sender = Sender::start(&gateway, "http/protobuf", "node-1", |config| config.endpoint = through);
    sender.send(SECOND, [J, 0, 0]);
    gateway.poll(SECOND);
    sender.send(SECOND, [2 * J, 0, 0]);
    proxy.drop_requests(true);
    sender.try_send(SECOND, [3 * J, 0, 0]);
    proxy.drop_requests(false);
    sender.send(Duration::from_secs(100), [4 * J, 0, 0]);
    gateway.until(|g| g.counter("hw.energy", "node-1", &[]) == Some(4 * J));
    let (missing, dropped) = (gateway.own("wattrace.gateway.sequence", "missing"), proxy.dropped());
    assert!(missing > 0 && missing <= dropped, "{missing} of {dropped}");
    assert_eq!(gateway.own("wattrace.gateway.sequence", "late"), 0);
}

#[test]
fn a_pipeline_that_is_behind_refuses_requests_for_now_and_loses_nothing() {
    for protocol in ["grpc", "http/protobuf"] {
        let mut gateway = Gateway::start(|config| config.max_pending = 4);
        let mut sender = Sender::start(&gateway, protocol, "node-1", |_| {});
        sender.send(SECOND, [J, J, J]);
        // Three points wait, so three more are too many.
        sender.try_send(SECOND, [2 * J, 2 * J, 2 * J]);
        assert_eq!(sender.losses(), [("unsent", 3)], "{protocol}");
        gateway.poll(SECOND);
        assert_eq!(gateway.counter("hw.energy", "node-1", &[]), Some(J));
        sender.send(Duration::from_secs(100), [3 * J, 3 * J, 3 * J]);
        gateway.poll(SECOND);
        assert_eq!(gateway.counter("hw.energy", "node-1", &[]), Some(3 * J), "{protocol}");
        assert!(gateway.own("wattrace.gateway.requests", "busy") >= 1);
        assert_eq!(
            gateway.own("wattrace.gateway.sequence", "missing"),
            0,
            "a refused request is not missing"
        );
    }
}

#[test]
fn points_wake_the_source_without_a_tick() {
    let mut gateway = Gateway::start(|config| config.interval = Duration::from_millis(1));
    let mut sender = Sender::start(&gateway, "grpc", "node-1", |_| {});
    for round in 1..=3 {
        sender.send(SECOND, [round * J, 0, 0]);
        gateway.wake();
        assert_eq!(gateway.counter("hw.energy", "node-1", &[]), Some(round * J));
    }
}

#[test]
fn idle_series_and_senders_end() {
    let mut gateway = Gateway::start(|config| config.idle_timeout = Duration::from_secs(60));
    let mut sender = Sender::start(&gateway, "grpc", "node-1", |_| {});
    sender.send(SECOND, [J, J, J]);
    gateway.poll(SECOND);
    gateway.poll(Duration::from_secs(30));
    assert_eq!(gateway.ended.len(), 0);
    gateway.poll(Duration::from_secs(40));
    assert_eq!(gateway.ended.len(), 3);
    gateway.poll(Duration::from_secs(10));
    assert_eq!(gateway.own("wattrace.gateway.senders", ""), 0);
}

#[test]
fn nothing_is_acknowledged_after_the_last_tick() {
    let mut gateway = Gateway::start(|_| {});
    let mut sender = Sender::start(&gateway, "grpc", "node-1", |_| {});
    sender.send(SECOND, [J, J, J]);
    gateway.last();
    assert_eq!(gateway.counter("hw.energy", "node-1", &[]), Some(J));
    sender.try_send(SECOND, [2 * J, 2 * J, 2 * J]);
    assert_eq!(sender.losses(), [("unsent", 3)]);
}

fn error(config: OtlpReceiverConfig) -> String {
    wattrace_api::testing::Rig::new().start::<OtlpReceiver>(config).unwrap_err().to_string()
}

#[test]
fn what_prevents_listening_is_reported_with_the_key_and_the_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let config = OtlpReceiverConfig { grpc: String::new(), http: address.clone(), ..Default::default() };
    let text = error(config);
    for part in ["plugins.otlp-receiver.http", &address, "another program has that port", "ss -ltnp"] {
        assert!(text.contains(part), "{text}");
    }
    let files = secured();
    let config = |certificate: &str, key: &str| OtlpReceiverConfig {
        grpc: unused_address(),
        http: String::new(),
        certificate: files.path(certificate),
        key: files.path(key),
        ..Default::default()
    };
    assert!(error(config("none.pem", "server.key")).starts_with("plugins.otlp-receiver.certificate: "));
    assert!(error(config("server.pem", "none.key")).starts_with("plugins.otlp-receiver.key: "));
    assert!(error(config("server.key", "server.key")).contains("it holds no certificate"));
    assert!(error(config("server.pem", "other.key")).contains("does it belong to"));
}
