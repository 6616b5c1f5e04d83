//! Formulas against scripted meters and usage.

use wattrace_api::testing::Rig;
use wattrace_api::{Metric, Resource, Unit};
use wattrace_transform_testing::{Fixture, SECOND};

use super::*;
use crate::{Formula as Plugin, FormulaConfig};

/// The example of docs/transforms.md.
const EXAMPLE: &str = r#"[[plugins.formula.metrics]]
name = "process.power"
expression = "energy / dt"
inputs.energy = { metric = "wattrace.consumer.energy", consumer = "process" }

[[plugins.formula.metrics]]
name = "process.power.per_cpu"
unit = "W"
expression = "energy / time"
inputs.energy = { metric = "wattrace.consumer.energy", consumer = "process" }
inputs.time = { metric = "wattrace.consumer.cpu.time" }

[[plugins.formula.metrics]]
name = "process.carbon"
unit = "mg"
expression = "energy * 400 [g/(kW.h)]"
inputs.energy = { metric = "wattrace.consumer.energy", consumer = "process" }
"#;

fn fixture(text: &str) -> Fixture {
    Fixture::of::<Plugin>(toml::from_str(text).unwrap())
}

fn transformer(s: &Fixture, text: &str) -> Transformer {
    let mut config: FormulaConfig = toml::from_str(text).unwrap();
    let spec = FormulaSpec::parse(config.metrics.remove(0), "key".to_owned()).unwrap();
    Transformer::open(&spec, s.rig.registry.clone(), s.rig.clock.now()).unwrap()
}

#[test]
fn power_efficiency_and_carbon_of_processes_as_the_docs_show() {
    let config: toml::Table = EXAMPLE.parse().unwrap();
    let mut s = Fixture::of::<Plugin>(config["plugins"]["formula"].clone().try_into().unwrap());
    let make = s.process(7, "make");
    let (energy, time) = (s.energy(Some(&make)), s.cpu_time(&make));
    let first = s.pass(0, 2, &[(energy, 36_000_000), (time, 3 * SECOND)]);
    let second = s.pass_ending(2, 4, &[(energy, 45_000_000), (time, 4 * SECOND)], &[energy, time]);
    let lines = [s.lines(&first), s.lines(&second)].concat().join("\n");
    assert_eq!(
        lines,
        "0s..2s wattrace.consumer.energy process/7 make on package/0 36 J\n\
         0s..2s wattrace.consumer.cpu.time process/7 make on package/0 3 s\n\
         0s..2s process.power process/7 make on package/0 18 W\n\
         0s..2s process.power.per_cpu process/7 make on package/0 12 W\n\
         0s..2s process.carbon process/7 make on package/0 4 mg\n\
         2s..4s wattrace.consumer.energy process/7 make on package/0 45 J\n\
         2s..4s wattrace.consumer.cpu.time process/7 make on package/0 4 s\n\
         2s..4s process.power process/7 make on package/0 4.5 W\n\
         2s..4s process.power.per_cpu process/7 make on package/0 9 W\n\
         2s..4s process.carbon process/7 make on package/0 5 mg"
    );
    let docs = include_str!("../../../../docs/transforms.md");
    assert!(docs.contains(EXAMPLE) && docs.contains(&lines), "docs/transforms.md differs");
    assert_eq!(second.ended().len(), 5, "results end with their leading series");
    let power = &s.rig.points(&second)[2].series;
    assert_eq!(
        power.domain.as_ref().unwrap().origin.as_str(),
        "simulated",
        "the origin of the energy is kept"
    );
}

#[test]
fn an_input_with_other_windows_is_read_over_the_leading_window() {
    let mut s = fixture(
        r#"
        [[metrics]]
        name = "share"
        expression = "energy / whole"
        inputs.energy = { metric = "wattrace.consumer.energy", consumer = "process" }
        inputs.whole.metric = "hw.energy"
    "#,
    );
    let p = s.process(7, "p");
    let (energy, whole) = (s.energy(Some(&p)), s.energy(None));
    // The process sleeps for ten seconds in which the package uses 100 J a second, then 200 J.
    for second in 0..10 {
        s.pass(second, second + 1, &[(whole, 100_000_000 * (second + 1))]);
    }
    let waits = s.pass(10, 11, &[(energy, 50_000_000)]);
    assert_eq!(waits.len(), 1, "the package's energy in that second is not known yet");
    let batch = s.pass(10, 12, &[(whole, 1_400_000_000)]);
    let share = &s.rig.points(&batch)[1];
    assert_eq!((&*share.metric, share.value), ("share", 0.25));
    assert_eq!(share.window.start, Timestamp(10 * SECOND));
}

#[test]
fn a_gauge_of_the_host_is_read_for_every_consumer() {
    let text = r#"
        [[metrics]]
        name = "carbon"
        expression = "energy * intensity"
        unit = "g"
        inputs.energy = { metric = "wattrace.consumer.energy", consumer = "process" }
        inputs.intensity.metric = "grid"
    "#;
    let mut s = Fixture::new();
    let grid = Metric::gauge("grid", Unit::Other("g/(kW.h)".into()), "");
    let intensity = s.open(&grid, Resource::HOST, None, None);
    s.rig.start::<Plugin>(toml::from_str(text).unwrap()).unwrap();
    let (a, b) = (s.process(1, "a"), s.process(2, "b"));
    let (a, b) = (s.energy(Some(&a)), s.energy(Some(&b)));
    assert_eq!(s.pass(0, 1, &[(a, 3_600_000_000)]).len(), 1, "no intensity is known");
    let batch = s.pass_gauges(0, 1, &[(intensity, 100.0)]);
    assert_eq!(s.rig.points(&batch)[1].value, 0.1, "the pending window is computed");
    let batch = s.pass(1, 2, &[(a, 7_200_000_000), (b, 3_600_000_000)]);
    let grams: Vec<_> = s.rig.points(&batch)[2..].iter().map(|p| p.value).collect();
    assert_eq!(grams, [0.2, 0.1]);
    s.pass_gauges(1, 2, &[(intensity, 500.0)]);
    let batch = s.pass(2, 3, &[(a, 10_800_000_000)]);
    assert_eq!(
        s.rig.points(&batch)[1].value,
        0.7,
        "each increment is multiplied by the intensity of its time"
    );
}

#[test]
fn a_formula_can_use_the_results_of_earlier_ones() {
    let mut s = fixture(
        r#"
        [[metrics]]
        name = "watts"
        expression = "energy / dt"
        inputs.energy.metric = "hw.energy"
        [[metrics]]
        name = "above"
        expression = "max(watts - 5 [W], 0) * dt"
        inputs.watts.metric = "watts"
    "#,
    );
    let meter = s.energy(None);
    for (second, joules, above) in [(0, 8, 3.0), (1, 10, 3.0), (2, 30, 18.0)] {
        let batch = s.pass(second, second + 1, &[(meter, joules * 1_000_000)]);
        let point = s.rig.points(&batch).pop().unwrap();
        assert_eq!((&*point.metric, point.value), ("above", above));
        assert_eq!(point.series.metric.kind, Kind::Counter);
    }
}

#[test]
fn a_counter_stays_constant_until_later_results_exceed_a_negative_one() {
    let mut s = fixture(
        "[[metrics]]\nname = \"rest\"\nexpression = \"e - 5 [W] * dt\"\ninputs.e.metric = \"hw.energy\"\n",
    );
    let meter = s.energy(None);
    let mut values = Vec::new();
    for (second, joules) in [(0, 6), (1, 8), (2, 20)] {
        let batch = s.pass(second, second + 1, &[(meter, joules * 1_000_000)]);
        values.push(s.rig.points(&batch)[1].value);
    }
    assert_eq!(values, [1.0, 1.0, 5.0]);
}

#[test]
fn all_state_is_removed_when_series_end() {
    let text = r#"
        [[metrics]]
        name = "efficiency"
        expression = "energy / time"
        inputs.energy = { metric = "wattrace.consumer.energy", consumer = "process" }
        inputs.time.metric = "wattrace.consumer.cpu.time"
    "#;
    let s = Fixture::new();
    let mut formula = transformer(&s, text);
    for pid in 0..100 {
        let p = s.process(pid, "p");
        let (energy, time) = (s.energy(Some(&p)), s.cpu_time(&p));
        let window = wattrace_transform_testing::seconds(0, 1);
        let mut batch = s.rig.batch(window, &[(time, SECOND)]);
        batch.end(time);
        formula.apply(&mut batch).unwrap();
        s.release(&batch);
        // The last energy arrives after the CPU time has ended.
        let mut batch = s.rig.batch(window, &[(energy, 2_000_000)]);
        batch.end(energy);
        formula.apply(&mut batch).unwrap();
        let points = s.rig.points(&batch);
        assert_eq!((points[1].value, batch.ended().len()), (2.0, 2));
        s.release(&batch);
    }
    let other = s.energy(None);
    formula.apply(&mut s.rig.batch(wattrace_transform_testing::seconds(11, 12), &[(other, 1)])).unwrap();
    assert_eq!((formula.engine.inputs.len(), formula.waiting.len()), (0, 0));
}

#[test]
fn energy_from_before_the_transform_was_opened_is_left_out() {
    let mut s = Fixture::new();
    let p = s.process(7, "p");
    let (whole, energy) = (s.energy(None), s.energy(Some(&p)));
    s.rig.clock.set(Timestamp(100 * SECOND));
    let text = r#"
        [[metrics]]
        name = "share"
        expression = "energy / whole"
        inputs.energy = { metric = "wattrace.consumer.energy", consumer = "process" }
        inputs.whole.metric = "hw.energy"
        [[metrics]]
        name = "doubled"
        expression = "energy * 2"
        inputs.energy = { metric = "wattrace.consumer.energy", consumer = "process" }
    "#;
    s.rig.start::<Plugin>(toml::from_str(text).unwrap()).unwrap();
    // A history of 1 MJ, then 1 J of 4 J.
    let first = s.pass(99, 101, &[(energy, 1_000_000_000_000), (whole, 3_000_000_000_000)]);
    let doubled = s.rig.points(&first).pop().unwrap();
    assert_eq!((doubled.steps, doubled.series.start), (0, Timestamp(99 * SECOND)));
    let second = s.pass(101, 102, &[(energy, 1_000_001_000_000), (whole, 3_000_004_000_000)]);
    let results: Vec<_> = s.rig.points(&second)[2..].iter().map(|p| p.value).collect();
    assert_eq!(results, [0.25, 2.0], "both inputs count from the opening");
}

#[test]
fn an_error_names_the_key_of_the_formula() {
    let config = toml::from_str(
        "[[metrics]]\nname = \"x\"\nexpression = \"e\"\nunit = \"W\"\ninputs.e.metric = \"hw.energy\"",
    );
    let message = Rig::new().start::<Plugin>(config.unwrap()).unwrap_err().to_string();
    assert!(message.starts_with("plugins.formula.metrics[0].unit: "), "{message}");
}
