//! Windows against values computed by hand, and random histories: no increment is lost, whatever is late or
//! ends.

use std::collections::HashMap;

use proptest::prelude::*;
use wattrace_api::{Attribute, Metric, Resource, Unit, Value, metric};
use wattrace_transform_testing::{Fixture, SECOND, seconds};

use super::*;
use crate::{Aggregate, AggregateConfig};

/// The example of docs/transforms.md.
const EXAMPLE: &str = r#"[plugins.aggregate]
window = "10s"

[[plugins.aggregate.rules]]
select = { metric = "wattrace.consumer.energy", consumer = "process" }
functions = ["sum", "max"]
by = ["process.executable.name"]
"#;

fn example() -> AggregateConfig {
    let config: toml::Table = EXAMPLE.parse().unwrap();
    config["plugins"]["aggregate"].clone().try_into().unwrap()
}

fn fixture(text: &str) -> Fixture {
    Fixture::of::<Aggregate>(toml::from_str(text).unwrap())
}

fn values(s: &Fixture, batch: &Batch) -> Vec<(String, f64)> {
    s.rig.points(batch).into_iter().map(|p| (p.metric, p.value)).collect()
}

#[test]
fn energy_per_program_every_ten_seconds_as_the_docs_show() {
    let mut s = Fixture::of::<Aggregate>(example());
    let [a, b, c] = [(1, "cc1"), (2, "cc1"), (3, "postgres")].map(|(pid, name)| s.process(pid, name));
    let [a, b, c] = [a, b, c].map(|p| s.energy(Some(&p)));
    let j = 1_000_000;
    let mut batches = vec![
        s.pass(0, 5, &[(a, 10 * j), (b, 20 * j), (c, 5 * j)]),
        s.pass_ending(5, 10, &[(a, 40 * j), (b, 21 * j), (c, 10 * j)], &[a]),
    ];
    assert_eq!(batches.iter().map(Batch::len).sum::<usize>(), 0, "windows wait for late points");
    batches.push(s.pass(10, 15, &[(b, 22 * j)]));
    batches.push(s.finish());
    let lines = batches.iter().flat_map(|batch| s.lines(batch)).collect::<Vec<_>>().join("\n");
    assert_eq!(
        lines,
        "0s..10s wattrace.consumer.energy.sum on host/ process.executable.name=cc1 61 J\n\
         0s..10s wattrace.consumer.energy.rate.max on host/ process.executable.name=cc1 6 W\n\
         0s..10s wattrace.consumer.energy.sum on host/ process.executable.name=postgres 10 J\n\
         0s..10s wattrace.consumer.energy.rate.max on host/ process.executable.name=postgres 1 W\n\
         10s..15s wattrace.consumer.energy.sum on host/ process.executable.name=cc1 62 J\n\
         10s..15s wattrace.consumer.energy.rate.max on host/ process.executable.name=cc1 0.2 W"
    );
    let docs = include_str!("../../../../docs/transforms.md");
    assert!(docs.contains(EXAMPLE) && docs.contains(&lines), "docs/transforms.md differs");
    let sum = &s.rig.points(&batches[2])[0].series;
    assert_eq!(sum.domain.as_ref().unwrap().origin.as_str(), "simulated", "the origin is kept");
}

#[test]
fn gauges_are_aggregated_by_value_and_percentiles_are_nearest_ranks() {
    let functions = "[\"sum\", \"mean\", \"min\", \"max\", \"p50\", \"p95\", \"p100\"]";
    let mut s = fixture(&format!("window = \"100s\"\nrules = [{{ functions = {functions}, keep = true }}]"));
    let gauge = s.open(&Metric::gauge("t", Unit::Other("Cel".into()), ""), Resource::HOST, None, None);
    for second in 0..100 {
        let batch = s.pass_gauges(second, second + 1, &[(gauge, ((second * 37) % 100 + 1) as f64)]);
        assert_eq!(batch.len(), 1, "the originals are kept");
    }
    s.pass_gauges(99, 100, &[(gauge, f64::NAN)]);
    let batch = s.finish();
    let names = ["t.sum", "t.mean", "t.min", "t.max", "t.p50", "t.p95", "t.p100"];
    let expected = names.map(str::to_owned).into_iter().zip([5050.0, 50.5, 1.0, 100.0, 50.0, 95.0, 100.0]);
    assert_eq!(values(&s, &batch), expected.collect::<Vec<_>>(), "NaN is left out");
    let points = s.rig.points(&batch);
    assert!(points.iter().all(|p| p.window == seconds(0, 100)));
}

#[test]
fn the_mean_of_a_counter_is_its_increase_divided_by_the_time() {
    let mut s = fixture("window = \"10s\"\nrules = [{ functions = [\"mean\", \"p50\"] }]");
    let meter = s.energy(None);
    s.pass(0, 1, &[(meter, 10_000_000)]);
    s.pass(1, 5, &[(meter, 20_000_000)]);
    let batch = s.finish();
    let expected = [("hw.energy.rate.mean", 4.0), ("hw.energy.rate.p50", 2.5)];
    assert_eq!(values(&s, &batch), expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn a_point_just_past_the_boundary_counts_in_the_window_that_it_covers() {
    let mut s = fixture("window = \"10s\"\nrules = [{ functions = [\"sum\"] }]");
    let meter = s.energy(None);
    let late = SECOND / 1000;
    for second in 0..12 {
        let window = Window::new(Timestamp(second * SECOND + late), Timestamp((second + 1) * SECOND + late));
        let batch = s.rig.batch(window, &[(meter, second + 1)]);
        let batch = s.rig.pass(batch).unwrap();
        let points = s.rig.points(&batch);
        let expected: &[_] = if second == 10 { &[10] } else { &[] };
        assert_eq!(points.iter().map(|p| p.steps).collect::<Vec<_>>(), expected, "at {second}");
        assert!(
            points.iter().all(|p| p.window == Window::new(Timestamp(late), Timestamp(10 * SECOND + late)))
        );
    }
}

#[test]
fn late_points_count_in_the_oldest_open_window() {
    let mut s = fixture("window = \"10s\"\nlateness = \"2s\"\nrules = [{ functions = [\"sum\"] }]");
    let (a, b) = (s.energy(None), s.energy(None));
    s.pass(0, 10, &[(a, 1)]);
    assert_eq!(s.pass(10, 11, &[(a, 2)]).len(), 0);
    s.pass(5, 9, &[(b, 100)]);
    let closed = s.pass(11, 12, &[(a, 3)]);
    assert_eq!(values(&s, &closed).iter().map(|t| (t.1 * 1e6).round()).collect::<Vec<_>>(), [1.0, 100.0]);
    // Its own window is closed already.
    s.pass(6, 10, &[(b, 300)]);
    let closed = s.pass(1_000_000, 1_000_001, &[(a, 4)]);
    let points = s.rig.points(&closed);
    assert_eq!(points.iter().map(|p| p.steps).collect::<Vec<_>>(), [3, 300]);
    assert!(
        points.iter().all(|p| p.window == seconds(6, 12)),
        "reported in the window that was open: {points:?}"
    );
}

#[test]
fn a_group_ends_with_its_last_series_after_its_last_value() {
    let mut s = Fixture::of::<Aggregate>(example());
    let (p, q) = (s.process(1, "cc1"), s.process(2, "cc1"));
    let (a, b) = (s.energy(Some(&p)), s.energy(Some(&q)));
    s.pass(0, 5, &[(a, 1), (b, 2)]);
    s.pass_ending(5, 10, &[(a, 4)], &[a]);
    let batch = s.pass(10, 15, &[(b, 5)]);
    assert_eq!((batch.len(), batch.ended()), (2, &[][..]), "b is still open");
    let batch = s.pass_ending(15, 20, &[(b, 6)], &[b]);
    assert_eq!(batch.ended(), &[b]);
    let other = s.energy(None);
    let batch = s.pass(20, 25, &[(other, 1)]);
    assert_eq!(s.rig.points(&batch)[1].steps, 10, "the last value comes first");
    assert_eq!(batch.ended().len(), 2, "then both results end");
}

#[test]
fn after_an_exec_increments_count_in_the_new_group() {
    let mut s = Fixture::of::<Aggregate>(example());
    let p = s.process(1, "bash");
    let a = s.energy(Some(&p));
    s.pass(0, 1, &[(a, 10)]);
    p.update(vec![Attribute::new("process.executable.name", "cc1")]);
    s.pass(1, 2, &[(a, 25)]);
    let batch = s.finish();
    let sums: Vec<_> =
        s.rig.points(&batch).iter().filter(|p| p.metric.ends_with("sum")).map(|p| p.steps).collect();
    assert_eq!(sums, [10, 15]);
}

#[test]
fn totals_leave_out_nested_domains_and_keep_origins_apart() {
    let mut s = fixture("rules = [{ functions = [\"sum\"], by = [\"metric\"] }]");
    let domain = |name: &str, within: Option<&str>, origin| {
        let (name, within) = (name.to_owned(), within.map(str::to_owned));
        Some(Arc::new(wattrace_api::Domain {
            name,
            origin,
            follows: wattrace_api::Follows::Cpus,
            within,
            idle_microwatts: None,
        }))
    };
    use wattrace_api::Origin::{Estimated, Measured};
    let open = |d| s.open(&metric::HW_ENERGY, Resource::package(0), d, None);
    let points = [
        (open(domain("package-0", None, Measured)), 100),
        (open(domain("core-0", Some("package-0"), Measured)), 60),
        (open(domain("dram-0", None, Measured)), 20),
        (open(domain("package-1", None, Estimated)), 7),
    ];
    s.pass(0, 1, &points);
    let batch = s.finish();
    let sums: Vec<_> = s.rig.points(&batch).iter().map(|p| p.steps).collect();
    assert_eq!(sums, [120, 7]);
}

#[test]
fn energy_from_before_the_transform_was_opened_is_in_no_window() {
    let mut s = Fixture::new();
    let (old, process) = (s.energy(None), s.process(1, "cc1"));
    s.rig.clock.set(Timestamp(100 * SECOND));
    s.rig
        .start::<Aggregate>(toml::from_str("rules = [{ functions = [\"sum\", \"min\", \"max\"] }]").unwrap())
        .unwrap();
    let new = s.energy(Some(&process));
    // 1 MJ of history arrives in a window that began before the transform was opened, then 5 J. All of the
    // new series counts.
    s.pass(99, 101, &[(old, 1_000_000_000_000)]);
    s.pass(101, 102, &[(old, 1_000_005_000_000), (new, 3_000_000)]);
    let batch = s.finish();
    let expected = [
        ("hw.energy.sum", 5.0),
        ("hw.energy.rate.min", 5.0),
        ("hw.energy.rate.max", 5.0),
        ("wattrace.consumer.energy.sum", 3.0),
        ("wattrace.consumer.energy.rate.min", 3.0),
        ("wattrace.consumer.energy.rate.max", 3.0),
    ];
    assert_eq!(values(&s, &batch), expected.map(|(name, value)| (name.to_owned(), value)));
    let starts: Vec<_> = s.rig.points(&batch).iter().map(|p| p.series.start).collect();
    assert_eq!(starts[0], Timestamp(99 * SECOND), "the sum is zero at the start of its first window");
    assert_eq!(starts[3], Timestamp(100 * SECOND), "the result of a new series starts with it");
}

proptest! {
    #[test]
    fn no_increment_is_lost_or_counted_twice(
        steps in prop::collection::vec(
            (
                0..6_u32,
                0..1_000_u64,
                0..2_000_u64,
                1..5_000_u64,
                prop::bool::weighted(0.1),
                prop::bool::weighted(0.1),
            ),
            1..80,
        ),
        single in any::<bool>(),
    ) {
        let by = if single { "" } else { ", by = [\"process.executable.name\"]" };
        let mut s = fixture(&format!(
            "window = \"2s\"\nrules = [{{ functions = [\"sum\", \"min\", \"mean\", \"p50\", \"max\"]{by} }}]"
        ));
        let (mut alive, mut truth) = (HashMap::new(), 0);
        let (mut values, mut total) = (HashMap::new(), 0);
        let mut now = 0;
        let mut read = |s: &Fixture, batch: &Batch| {
            let points = s.rig.points(batch);
            for results in points.chunks(5) {
                let values: Vec<_> = results[1..].iter().map(|p| p.value).collect();
                assert!(values.is_sorted() || values[0] <= values[1] && values[1] <= values[3], "{values:?}");
            }
            for point in points.iter().filter(|p| p.metric.ends_with(".sum")) {
                let before: u64 = values.insert(point.id, point.steps).unwrap_or(0);
                assert!(before <= point.steps, "a sum went backwards");
                total += point.steps - before;
            }
            values.retain(|id, _| !batch.ended().contains(id));
            s.release(batch);
            (total, values.len())
        };
        for (pid, energy, behind, milliseconds, ends, execs) in steps {
            let length = milliseconds * 1_000_000;
            now += length;
            let end = now - (behind * 1_000_000).min(now - length);
            let (process, id, value) = alive.entry(pid).or_insert_with(|| {
                let process = s.process(pid, if pid % 2 == 0 { "even" } else { "odd" });
                let id = s.energy(Some(&process));
                (process, id, 0)
            });
            if execs {
                process.update(vec![Attribute::new("process.executable.name", "odd")]);
            }
            *value += energy;
            truth += energy;
            let window = Window::new(Timestamp(end - length), Timestamp(end));
            let mut batch = Batch::default();
            batch.begin(window);
            batch.push(*id, Value::of_steps(*value));
            if ends {
                batch.end(*id);
                alive.remove(&pid);
            }
            let batch = s.rig.pass(batch).unwrap();
            read(&s, &batch);
        }
        // All series end.
        let mut last = Batch::default();
        alive.values().for_each(|(_, id, _)| last.end(*id));
        let last = s.rig.pass(last).unwrap();
        read(&s, &last);
        let batch = s.finish();
        let (total, open) = read(&s, &batch);
        prop_assert_eq!(total, truth);
        prop_assert_eq!(open, 0, "results end with their series");
    }
}
