//! The gateway over TLS, with a bearer token, and with certificates of senders. A test binary of its own,
//! because the sender reads its TLS files from the environment.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::time::Duration;

use common::{Files, Gateway, J, Sender, secured};
use wattrace_api::Secret;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn over_tls_only_senders_with_a_token_or_a_certificate_are_accepted() {
    let files = secured();
    files.set("CERTIFICATE", "authority.pem");
    by_token(&files);
    by_certificate(&files);
}

fn by_token(files: &Files) {
    for protocol in ["grpc", "http/protobuf"] {
        let mut gateway = Gateway::start(|config| {
            config.certificate = files.path("server.pem");
            config.key = files.path("server.key");
            config.bearer_token = Secret("open-sesame".to_owned());
        });
        gateway.scheme = "https";
        let bearer = |token: &str| [("authorization".to_owned(), format!("Bearer {token}"))].into();
        let mut right =
            Sender::start(&gateway, protocol, "node-1", |config| config.headers = bearer("open-sesame"));
        right.send(SECOND, [7 * J, 0, 0]);
        gateway.poll(SECOND);
        assert_eq!(gateway.counter("hw.energy", "node-1", &[]), Some(7 * J), "{protocol}");

        let mut wrong =
            Sender::start(&gateway, protocol, "node-2", |config| config.headers = bearer("open-sesam"));
        wrong.try_send(SECOND, [J, J, J]);
        assert_eq!(wrong.losses(), [("refused", 3)], "{protocol}");
        gateway.poll(SECOND);
        assert_eq!(gateway.counter("hw.energy", "node-2", &[]), None);
        assert_eq!(gateway.own("wattrace.gateway.requests", "unauthenticated"), 1);
    }
}

fn by_certificate(files: &Files) {
    let mut gateway = Gateway::start(|config| {
        config.certificate = files.path("server.pem");
        config.key = files.path("server.key");
        config.client_authority = files.path("authority.pem");
    });
    gateway.scheme = "https";
    for protocol in ["grpc", "http/protobuf"] {
        let mut stranger = Sender::start(&gateway, protocol, "stranger", |_| {});
        stranger.try_send(SECOND, [J, J, J]);
        assert_eq!(stranger.losses(), [("unsent", 3)], "{protocol}");
    }
    files.set("CLIENT_CERTIFICATE", "client.pem");
    files.set("CLIENT_KEY", "client.key");
    for protocol in ["grpc", "http/protobuf"] {
        let mut known = Sender::start(&gateway, protocol, protocol, |_| {});
        known.send(SECOND, [3 * J, 0, 0]);
        gateway.poll(SECOND);
        assert_eq!(gateway.counter("hw.energy", protocol, &[]), Some(3 * J));
    }
    assert_eq!(gateway.counter("hw.energy", "stranger", &[]), None);
}
