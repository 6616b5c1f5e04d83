//! Tests of the report in words, and of its other forms.

use std::collections::BTreeMap;

use super::*;
use crate::cli::compare::verdict::{Asked, ERROR, Runs, programs};
use crate::cli::exec::usage::{ProgramUsage, RunUsage};

/// Runs of which B uses `more` (a fraction) more, with a noise of `noise`.
fn report(more: f64, noise: f64, max_increase: Option<f64>) -> Report {
    let mut random = fastrand::Rng::with_seed(3);
    let mut side = |factor: f64| -> Vec<RunUsage> {
        let run = |_| {
            let energy_j = 12_000.0 * factor * (1.0 + noise * (random.f64() - 0.5));
            let program = |energy_j| ProgramUsage { processes: 1, cpu_time_s: 1.0, energy_j };
            let programs = BTreeMap::from([
                ("a-compiler-with-a-long-name".to_owned(), program(energy_j * 0.9)),
                ("ld".to_owned(), program(energy_j * 0.1)),
            ]);
            let (wall_s, origin) = (3_600.0, "measured".to_owned());
            let known = serde_json::json!({ "known": "assumed", "watts": 10.2, "ci95_w": 4.0 });
            RunUsage {
                static_power: BTreeMap::from([("package-0".into(), serde_json::from_value(known).unwrap())]),
                energy_j,
                machine_j: 80_000.0,
                cpu_time_s: 1.0,
                wall_s,
                origin,
                programs,
                ..RunUsage::default()
            }
        };
        (0..10).map(run).collect()
    };
    let runs = Runs { a: side(1.0), b: side(1.0 + more), b_first: Some([true, false].repeat(5)) };
    let plan = Plan::once(10, ERROR).unwrap();
    let asked = Asked { difference: 0.02, max_increase };
    let verdict = Verdict::look(&runs, asked, plan.last(), &plan).unwrap();
    let comparison = Comparison {
        names: ["make a | tee `b`".to_owned(), "x".repeat(200)],
        programs: programs(&runs, ERROR),
        seed: 3,
        remarks: vec!["other processes kept 0.7 CPUs busy during the runs, ".repeat(3)],
        plan,
        runs,
        verdict,
    };
    Report { comparison, asked, max_joules: None }
}

#[test]
fn the_report_says_how_well_static_power_is_known() {
    let report = report(0.1, 0.01, None);
    let line = "at no load: package-0 10.20 ± 4.00 W (assumed)";
    assert!(report.for_people().contains(&format!("\n  {line}\n")), "{}", report.for_people());
    assert!(report.markdown().contains(&format!("\nPower {line}.\n")), "{}", report.markdown());
}

#[test]
fn the_verdict_is_said_in_words() {
    let words = |more, noise| report(more, noise, None).in_words();
    assert!(words(0.1, 0.01).starts_with("B uses 10.0 % more energy than A: 132"), "{}", words(0.1, 0.01));
    assert!(words(-0.1, 0.01).starts_with("B uses 10.0 % less energy than A: 10"), "{}", words(-0.1, 0.01));
    assert!(
        words(0.0, 0.01).starts_with("A and B use the same energy to within 2.0 %"),
        "{}",
        words(0.0, 0.01)
    );
    assert!(words(0.0, 0.5).starts_with("No difference was found"), "{}", words(0.0, 0.5));
}

#[test]
fn gates_hold_are_exceeded_or_undecided() {
    let gate = |more, noise, limit| report(more, noise, Some(limit)).gate();
    assert_eq!(gate(0.0, 0.01, 0.02), Gate::Held);
    assert_eq!(gate(0.05, 0.01, 0.02), Gate::Exceeded);
    assert_eq!(gate(0.02, 0.2, 0.02), Gate::Undecided);
    let limited = |most| Report { max_joules: Some(most), ..report(0.0, 0.01, Some(0.02)) };
    assert_eq!((limited(11_000.0).gate(), limited(13_000.0).gate()), (Gate::Exceeded, Gate::Held));
    let words = limited(11_000.0).in_words();
    assert!(
        words.ends_with(
            "The increase is within 2.0 %: the gate holds. B uses more than 11000 J: the gate is exceeded."
        ),
        "{words}"
    );
}

#[test]
fn text_for_people_fits_80_columns() {
    let text = report(0.1, 0.01, Some(0.02)).for_people();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(text.contains("a-compiler-with-a…") && text.contains("whole machine, J"), "{text}");
}

#[test]
fn markdown_shows_the_gate_and_escapes_commands() {
    let text = report(0.1, 0.01, Some(0.02)).markdown();
    assert!(text.starts_with("### ❌ Energy\n\nB uses 10.0 % more energy"), "{text}");
    assert!(text.contains("A is `make a \\| tee 'b'` (10 runs)"), "{text}");
    assert!(text.contains("| whole machine, J | 80000 | 80000 | +0.00 % |"), "{text}");
}

#[test]
fn json_has_the_verdict_the_gate_all_runs_and_their_order() {
    let json = report(0.1, 0.01, Some(0.02)).json();
    assert_eq!((&json["schema"], &json["verdict"]), (&"wattrace.compare/1".into(), &"more".into()));
    assert_eq!((&json["gate"]["result"], &json["plan"]["seed"]), (&"exceeded".into(), &3.into()));
    assert_eq!(json["b"]["runs"].as_array().unwrap().len(), 10);
    let keys: Vec<_> =
        json["measures"].as_array().unwrap().iter().map(|m| m["measure"].as_str().unwrap()).collect();
    assert_eq!(keys, ["energy_j", "machine_j", "cpu_time_s", "wall_s"]);
    assert!(json["measures"][0]["interval"]["low"].as_f64().unwrap() > 0.09, "{json}");
}
