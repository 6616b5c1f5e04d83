//! The plugin as it is configured: the example of docs/transforms.md, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

use std::sync::Arc;

use wattrace_api::testing::Rig;
use wattrace_api::{Consumer, ConsumerKind, Timestamp};
use wattrace_top::{Top, TopConfig};
use wattrace_transform_testing::{Fixture, SECOND};

/// The example of docs/transforms.md.
const EXAMPLE: &str = "[plugins.top]\ncount = 2\ninterval = \"10s\"\n";

fn config(text: &str) -> TopConfig {
    let config: toml::Table = text.parse().unwrap();
    config["plugins"]["top"].clone().try_into().unwrap()
}

#[test]
fn a_newcomer_takes_the_place_of_the_weakest_and_the_documentation_shows_it() {
    let mut s = Fixture::of::<Top>(config(EXAMPLE));
    let idle = s.energy(Some(&Arc::new(Consumer::closing(ConsumerKind::Idle))));
    let [a, b, c] = [(1, "make"), (2, "postgres"), (3, "bash")].map(|(pid, name)| s.process(pid, name));
    let (a, b, c) = (s.energy(Some(&a)), s.energy(Some(&b)), s.energy(Some(&c)));
    let j = 1_000_000;
    let first = s.pass(0, 10, &[(idle, 50 * j), (a, 20 * j), (b, 30 * j), (c, j)]);
    let second = s.pass(10, 20, &[(idle, 100 * j), (a, 21 * j), (b, 60 * j), (c, 41 * j)]);
    let lines = [s.lines(&first), s.lines(&second)].concat().join("\n");
    assert_eq!(
        lines,
        "0s..10s wattrace.consumer.energy idle/ on package/0 50 J\n\
         0s..10s wattrace.consumer.energy process/1 make on package/0 20 J\n\
         0s..10s wattrace.consumer.energy process/2 postgres on package/0 30 J\n\
         0s..10s wattrace.consumer.energy other/ on package/0 1 J\n\
         10s..20s wattrace.consumer.energy idle/ on package/0 100 J\n\
         10s..20s wattrace.consumer.energy process/2 postgres on package/0 60 J\n\
         10s..20s wattrace.consumer.energy process/3 bash on package/0 40 J\n\
         10s..20s wattrace.consumer.energy other/ on package/0 2 J"
    );
    let docs = include_str!("../../../docs/transforms.md");
    assert!(docs.contains(EXAMPLE) && docs.contains(&lines), "docs/transforms.md shows something else");
    let bash = &s.rig.points(&second)[2].series;
    assert_eq!(bash.start, Timestamp(10 * SECOND), "what it used before is in `other`");
    assert_eq!(second.ended(), &[s.rig.points(&first)[1].id], "make's own series has ended");
}

#[test]
fn all_consumers_but_closing_entries_may_compete() {
    for kind in ConsumerKind::ALL {
        let config = TopConfig { consumer: kind.as_str().to_owned(), ..TopConfig::default() };
        let is_closing = matches!(
            kind,
            ConsumerKind::Idle | ConsumerKind::Irq | ConsumerKind::Other | ConsumerKind::Unattributed
        );
        assert_eq!(Rig::new().start::<Top>(config).is_ok(), !is_closing, "{kind:?}");
    }
}

#[test]
fn an_invalid_value_is_refused_by_its_key() {
    for (text, start) in [
        ("count = 0", "plugins.top.count: "),
        ("by = \"\"", "plugins.top.by: "),
        ("interval = \"0s\"", "plugins.top.interval: "),
        ("consumer = \"idle\"", "plugins.top.consumer: \"idle\" is none of process, "),
    ] {
        let message = Rig::new().start::<Top>(toml::from_str(text).unwrap()).unwrap_err().to_string();
        assert!(message.starts_with(start), "{message}");
    }
}
