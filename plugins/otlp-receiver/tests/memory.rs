//! How much memory a hostile sender can make the gateway take. A test binary of its own, because it looks at
//! the process's peak.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod common;

use std::time::Duration;

use common::Gateway;
use common::requests::{post, request, text};

/// The most memory that this process had so far, in megabytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

#[test]
fn a_hostile_sender_takes_little_memory() {
    let mut gateway = Gateway::start(|_| {});
    let address = gateway.config.http.clone();
    let empty = [0x0a, 0].repeat(2_000_000);
    let before = peak();
    // 32 bodies of empty messages at the same time: each would unpack to more than 200 MB.
    std::thread::scope(|scope| {
        let posts: Vec<_> = (0..32).map(|_| scope.spawn(|| post(&address, &empty).0)).collect();
        for status in posts.into_iter().map(|post| post.join().unwrap()) {
            assert!(matches!(status, 413 | 503 | 0), "{status}");
        }
    });
    let bodies = peak() - before;
    // 10,000 series with 40 kB of attributes each.
    for hundred in 0..100 {
        let many = (0..100).map(|n| text("k", format!("{hundred}-{n}-{}", "x".repeat(40_000))));
        assert_eq!(post(&address, &request("hostile", many)).0, 200);
    }
    // And 10,000 with as much as is allowed.
    for hundred in 0..100 {
        let many = (0..100).map(|n| text("k", format!("{hundred}-{n}-{}", "x".repeat(4_000))));
        assert_eq!(post(&address, &request("hostile", many)).0, 200);
        gateway.poll(Duration::from_millis(100));
    }
    let all = peak() - before;
    println!("peak: {bodies} MB more for bodies, {all} MB in all");
    assert!(all < 200, "{bodies} MB for bodies, {all} MB in all");
    assert_eq!(gateway.own("wattrace.gateway.points", "too_long"), 10_000);
    assert!(gateway.own("wattrace.gateway.points", "too_many_bytes") > 5_000);
}
