//! Increments read back out of a database: in any span they sum to what a report says, whether points or only
//! sums are left of it, and each window of points comes as it was measured.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic: that is how tests fail")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Domain, Follows, Identity, Origin, Resource, SeriesId, SeriesSpec,
    Timestamp, Window, metric,
};
use wattrace_sqlite::{By, EnergySeries, EnergySink, Reader, Span, Sqlite, SqliteConfig};

const SECOND: u64 = 1_000_000_000;
/// A whole hour, in seconds since the Unix epoch.
const BEGIN: u64 = 1_800_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp((BEGIN + second) * SECOND)
}

fn open(rig: &Rig, consumer: Option<Consumer>) -> SeriesId {
    let (name, origin, follows) = ("package-0".to_owned(), Origin::Simulated, Follows::Package(0));
    let domain = Domain { name, origin, follows, within: None, idle_microwatts: None };
    let metric = if consumer.is_some() { &metric::CONSUMER_ENERGY } else { &metric::HW_ENERGY };
    let metric = rig.registry.metric(metric).unwrap();
    let spec = SeriesSpec::new(metric, Resource::package(0), rig.clock.now());
    rig.registry.open(SeriesSpec { domain: Some(Arc::new(domain)), consumer: consumer.map(Arc::new), ..spec })
}

fn consumer(kind: ConsumerKind, id: &'static str, attributes: Vec<Attribute>) -> Consumer {
    Consumer::new(Identity { kind, id: id.into(), start_unix_nano: at(0).0 }, None, attributes)
}

/// Writes three hours: a window every ten seconds, of which a process uses one joule and its second in
/// microjoules, and idle two joules. Points are kept for ten minutes, sums per minute for ninety minutes.
fn write(path: &Path) {
    let mut rig = Rig::new();
    rig.clock.set(at(0));
    rig.start::<Sqlite>(SqliteConfig {
        path: path.into(),
        commit_interval: Duration::ZERO,
        keep_points: Duration::from_secs(600),
        keep_minutes: Duration::from_secs(5400),
        ..SqliteConfig::default()
    })
    .unwrap();
    let attributes = vec![
        Attribute::new("process.executable.name", "cc"),
        Attribute::new("process.parent_pid", 6_u32),
        Attribute::new("process.real_user.id", 1000_u32),
        Attribute::new("process.real_user.name", "ada"),
    ];
    let ids = [
        open(&rig, None),
        open(&rig, Some(consumer(ConsumerKind::Process, "7", attributes))),
        open(&rig, Some(consumer(ConsumerKind::Unit, "a.service", Vec::new()))),
        open(&rig, Some(consumer(ConsumerKind::Thread, "7", Vec::new()))),
        open(&rig, Some(Consumer::closing(ConsumerKind::Idle))),
    ];
    let mut counted = [0; 5];
    for end in (10..=3 * 3600).step_by(10) {
        let used = 1_000_000 + end;
        let steps = [used + 2_000_000, used, used, used, 2_000_000];
        counted.iter_mut().zip(steps).for_each(|(sum, steps)| *sum += steps);
        rig.clock.set(at(end));
        let points: Vec<_> = ids.into_iter().zip(counted).collect();
        let batch = rig.batch(Window::new(at(end - 10), at(end)), &points);
        rig.pass(batch).unwrap();
    }
}

/// All increments, with the name of whose they are.
#[derive(Default)]
struct Collected {
    series: Vec<EnergySeries>,
    increments: Vec<(String, Span, u64)>,
}

impl EnergySink for Collected {
    fn series(&mut self, series: EnergySeries) -> Option<usize> {
        self.series.push(series);
        Some(self.series.len() - 1)
    }

    fn increment(&mut self, key: usize, window: Span, microjoules: u64) {
        let series = &self.series[key];
        let name = series.user.as_ref().map_or("meter".to_owned(), |user| match user.name.as_str() {
            "" => format!("{}{}", user.kind, user.id),
            name => name.to_owned(),
        });
        self.increments.push((name, window, microjoules));
    }
}

impl Collected {
    fn of(path: &Path, from: u64, to: u64) -> (Self, Span) {
        let mut collected = Self::default();
        let span = Span { from: at(from).0, to: at(to).0 };
        let span = Reader::open(path).unwrap().energy_increments(span, &mut collected).unwrap();
        (collected, span)
    }

    fn sums(&self) -> BTreeMap<&str, u64> {
        let mut sums = BTreeMap::new();
        for (name, _, microjoules) in &self.increments {
            *sums.entry(name.as_str()).or_default() += microjoules;
        }
        sums
    }
}

#[test]
fn increments_of_any_span_sum_to_its_report_and_lie_within_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    write(&path);
    let reader = Reader::open(&path).unwrap();
    for (from, to) in [(0, 10_800), (3600, 7200), (1234, 9000), (7000, 10_500), (10_400, 10_731)] {
        let (collected, span) = Collected::of(&path, from, to);
        let report = reader.energy(Span { from: at(from).0, to: at(to).0 }, By::Program, None).unwrap();
        assert_eq!(report.span, span);
        let sums = collected.sums();
        let idle = report.closing.iter().find(|row| row.kind == "idle").unwrap().microjoules;
        let expected = [
            ("meter", report.measured_microjoules()),
            ("cc", report.consumers[0].microjoules),
            ("unita.service", report.consumers[0].microjoules),
            ("idle", idle),
        ];
        assert_eq!(sums, BTreeMap::from(expected), "{from} to {to}");
        for (_, window, _) in &collected.increments {
            assert!(window.from < window.to && window.to > span.from && window.to <= span.to, "{window:?}");
        }
    }
}

#[test]
fn a_window_of_points_is_as_it_was_measured_and_a_process_is_described() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.db");
    write(&path);
    let (collected, _) = Collected::of(&path, 10_700, 10_720);
    let of = |name: &str| {
        let increments = collected.increments.iter().filter(move |(found, ..)| found == name);
        increments.map(|&(_, window, microjoules)| (window, microjoules)).collect::<Vec<_>>()
    };
    let window = |end: u64| Span { from: at(end - 10).0, to: at(end).0 };
    assert_eq!(of("cc"), [(window(10_710), 1_010_710), (window(10_720), 1_010_720)]);
    let mut process = collected.series.iter().filter_map(|series| series.user.as_ref());
    let process = process.rfind(|user| user.kind == "process").unwrap();
    assert_eq!((process.id.as_str(), process.parent.as_deref()), ("7", Some("6")));
    assert_eq!(process.owner, Some(("1000".to_owned(), "ada".to_owned())));
    assert_eq!((process.start_unix_nano, process.end_unix_nano), (at(0).0, None));
    // Of hours ago, only sums are left, of the program.
    let (collected, _) = Collected::of(&path, 0, 3600);
    assert_eq!(of_hour(&collected), [(Span { from: at(0).0, to: at(3600).0 }, 360 * 1_000_000 + 649_800)]);
}

fn of_hour(collected: &Collected) -> Vec<(Span, u64)> {
    let increments = collected.increments.iter().filter(|(name, ..)| name == "cc");
    increments.map(|&(_, window, microjoules)| (window, microjoules)).collect()
}
