//! In steady state no transform allocates memory per point. The allocator counts allocations.

use std::time::Instant;

use wattrace_aggregate::Aggregate;
use wattrace_api::testing::Allocations;
use wattrace_api::{Batch, Plugin, SeriesId, Value};
use wattrace_carbon::Carbon;
use wattrace_filter::Filter;
use wattrace_formula::Formula;
use wattrace_relabel::Relabel;
use wattrace_top::Top;
use wattrace_transform_testing::{Fixture, seconds};

#[global_allocator]
static ALLOCATIONS: Allocations = Allocations;

/// Seconds until every window has been opened and closed, and every history is full.
const WARM_UP: u64 = 80;
const MEASURED: u64 = 40;
const PROCESSES: u32 = 1000;

/// Most allocations in one second after the warm-up.
#[expect(clippy::unwrap_used, reason = "called by a test")]
fn most_allocations<P: Plugin>(config: &str) -> u64 {
    let mut s = Fixture::of::<P>(toml::from_str(config).unwrap());
    let mut series: Vec<SeriesId> = Vec::new();
    for pid in 0..PROCESSES {
        let process = s.process(pid, if pid % 2 == 0 { "make" } else { "postgres" });
        series.extend([s.cpu_time(&process), s.energy(Some(&process))]);
    }
    let (mut batch, mut most, mut points, mut nanos) = (Batch::default(), 0, 0, 0);
    for second in 0..WARM_UP + MEASURED {
        batch.clear();
        batch.begin(seconds(second, second + 1));
        for (n, &id) in series.iter().enumerate() {
            batch.push(id, Value::of_steps((n as u64 + 1) * (second + 1) * 1000));
        }
        let (before, began) = (Allocations::of_this_thread(), Instant::now());
        for (_, transform) in &mut s.rig.transforms {
            transform.apply(&mut batch).unwrap();
        }
        if second >= WARM_UP {
            most = most.max(Allocations::of_this_thread() - before);
            points += series.len() as u128;
            nanos += began.elapsed().as_nanos();
        }
    }
    println!("{}: {most} allocations at most, {} ns a point", P::NAME, nanos / points);
    most
}

#[test]
fn no_transform_allocates_per_point() {
    let select = "select = { attributes = { \"process.executable.name\" = \"make\" } }";
    let filter = format!("rules = [{{ action = \"drop\", {select} }}]");
    assert_eq!(most_allocations::<Filter>(&filter), 0);
    let relabel = format!("rules = [{{ rename = \"x\", set = {{ a = 1 }}, {select} }}]");
    assert_eq!(
        most_allocations::<Relabel>(&relabel.replace("select = {", "select = { metric = \"*.energy\",")),
        0
    );
    assert_eq!(most_allocations::<Carbon>("intensity = 400.0\ntariff = 0.3"), 0);
    let functions = "functions = [\"sum\", \"mean\", \"p95\"]";
    let by = "by = [\"process.executable.name\"]";
    let aggregate = format!("rules = [{{ {functions} }}, {{ {functions}, {by}, keep = true }}]");
    assert_eq!(most_allocations::<Aggregate>(&aggregate), 0);
    let formula = r#"
        [[metrics]]
        name = "x"
        expression = "energy / time + max(energy / dt - 5 [W], 0)"
        inputs.energy.metric = "wattrace.consumer.energy"
        inputs.time.metric = "wattrace.consumer.cpu.time"
    "#;
    assert_eq!(most_allocations::<Formula>(formula), 0);
    // A ranking makes two lists of all consumers per interval, not per point.
    assert!(most_allocations::<Top>("count = 10") < 40);
    assert_eq!(most_allocations::<Top>("count = 10\ninterval = \"1h\""), 0);
}
