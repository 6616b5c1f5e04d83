//! Carbon and cost against sums computed by hand, and files that change, become invalid and are removed.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use wattrace_api::testing::{Point, Rig};
use wattrace_api::{Batch, ErrorKind, Timestamp};
use wattrace_transform_testing::{Fixture, SECOND};

use crate::{Carbon, CarbonConfig};

const KWH: u64 = 3_600_000_000_000;

/// The example of docs/transforms.md.
const EXAMPLE: &str = "[plugins.carbon]\ncountry = \"DE\"\ntariff = 0.30\n";

fn config(text: &str) -> CarbonConfig {
    toml::from_str(text).unwrap()
}

/// Writes `text` with a modification time of `seconds` after the epoch: file systems' clocks are too coarse
/// for tests.
fn write(path: &Path, text: &str, seconds: u64) {
    fs::write(path, text).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
}

fn last(s: &Fixture, batch: &Batch, metric: &str) -> Option<Point> {
    s.rig.points(batch).into_iter().rfind(|p| p.metric == metric)
}

#[test]
fn carbon_and_cost_are_added_for_all_energy_as_the_docs_show() {
    let table: toml::Table = EXAMPLE.parse().unwrap();
    let mut s = Fixture::of::<Carbon>(table["plugins"]["carbon"].clone().try_into().unwrap());
    let make = s.process(7, "make");
    let (meter, energy) = (s.energy(None), s.energy(Some(&make)));
    let batch = s.pass(0, 3600, &[(meter, KWH), (energy, KWH / 10)]);
    let lines = s.lines(&batch).join("\n");
    assert_eq!(
        lines,
        "0s..3600s hw.energy on package/0 3600000 J\n\
         0s..3600s wattrace.consumer.energy process/7 make on package/0 360000 J\n\
         0s..3600s wattrace.carbon.rate on host/ 380.95 g/(kW.h)\n\
         0s..3600s wattrace.cost.rate on host/ 0.3 {EUR}/(kW.h)\n\
         0s..3600s hw.carbon on package/0 380.95 g\n\
         0s..3600s hw.cost on package/0 0.3 {EUR}\n\
         0s..3600s wattrace.consumer.carbon process/7 make on package/0 38.095 g\n\
         0s..3600s wattrace.consumer.cost process/7 make on package/0 0.03 {EUR}"
    );
    let docs = include_str!("../../../../docs/transforms.md");
    assert!(docs.contains(EXAMPLE) && docs.contains(&lines), "docs/transforms.md differs");
    let carbon = last(&s, &batch, "wattrace.consumer.carbon").unwrap();
    assert_eq!(
        carbon.series.domain.as_ref().unwrap().origin.as_str(),
        "simulated",
        "the origin of the energy is kept"
    );

    let batch = s.pass_ending(3600, 3601, &[(energy, KWH / 10)], &[energy]);
    assert!(batch.ended().contains(&carbon.id) && batch.ended().len() == 3, "{:?}", batch.ended());
}

#[test]
fn rounding_loses_nothing_however_small_the_windows() {
    let mut s = Fixture::of::<Carbon>(config("intensity = 123.456\npue = 1.5"));
    let meter = s.energy(None);
    let (mut energy, mut carbon) = (0, 0);
    for second in 0..1000 {
        energy += 7 + second * second % 1_000_003;
        let batch = s.pass(second, second + 1, &[(meter, energy)]);
        let now = last(&s, &batch, "hw.carbon").unwrap().steps;
        assert!(now >= carbon);
        carbon = now;
    }
    let exact = u128::from(energy) * 185_184_000_000 / u128::from(KWH);
    assert_eq!(u128::from(carbon), exact);
}

#[test]
fn many_short_processes_cost_as_much_as_one_long_one() {
    let mut s = Fixture::of::<Carbon>(config("tariff = 0.22"));
    let (mut energy, mut cost) = (0, 0);
    for second in 0..1000 {
        // 20 mJ, at 1.2 billionths.
        let short = s.process(second as u32, "true");
        let series = s.energy(Some(&short));
        let used = 20_000 + second;
        let batch = s.pass_ending(second, second + 1, &[(series, used)], &[series]);
        energy += used;
        cost += last(&s, &batch, "wattrace.consumer.cost").unwrap().steps;
        s.release(&batch);
    }
    assert_eq!(u128::from(cost), u128::from(energy) * 220_000_000 / u128::from(KWH));
}

#[test]
fn each_increment_is_multiplied_by_the_intensity_of_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grid");
    write(&path, "100\n", 1);
    let text = format!("intensity_file = {path:?}\ncheck_interval = \"10s\"");
    let mut s = Fixture::of::<Carbon>(config(&text));
    let meter = s.energy(None);
    let mut hours = 0;
    let mut pass = |s: &mut Fixture| {
        hours += 1;
        let batch = s.pass(3600 * (hours - 1), 3600 * hours, &[(meter, hours * KWH)]);
        let of = |metric| last(s, &batch, metric).unwrap().value;
        (of("hw.carbon"), of("wattrace.carbon.rate"), of("wattrace.carbon.failures"))
    };
    assert_eq!(pass(&mut s), (100.0, 100.0, 0.0));
    write(&path, "{\"zone\": \"DE\", \"carbonIntensity\": 250.5}", 2);
    assert_eq!(pass(&mut s), (350.5, 250.5, 0.0));
    write(&path, "unknown", 3);
    assert_eq!(pass(&mut s), (601.0, 250.5, 1.0));
    assert_eq!(pass(&mut s), (851.5, 250.5, 1.0), "a bad file counts once");
    write(&path, "-5", 4);
    assert_eq!(pass(&mut s), (1102.0, 250.5, 2.0));
    fs::remove_file(&path).unwrap();
    assert_eq!(pass(&mut s), (1352.5, 250.5, 3.0));
    write(&path, "50", 5);
    assert_eq!(pass(&mut s), (1402.5, 50.0, 3.0));
}

#[test]
fn the_file_is_checked_no_more_often_than_configured() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("price");
    write(&path, "{\"price\": 0.25}", 1);
    let text = format!("tariff_file = {path:?}\ncurrency = \"CHF\"\ncheck_interval = \"10s\"");
    let mut s = Fixture::of::<Carbon>(config(&text));
    let meter = s.energy(None);
    let cost = |s: &mut Fixture, second: u64, kwh: u64| {
        let batch = s.pass(second, second + 1, &[(meter, kwh * KWH)]);
        last(s, &batch, "hw.cost").unwrap().value
    };
    assert_eq!(cost(&mut s, 0, 1), 0.25);
    write(&path, "-0.01", 2);
    assert_eq!(cost(&mut s, 1, 2), 0.5, "not checked yet");
    assert_eq!(cost(&mut s, 11, 3), 0.5, "a price below zero costs nothing");
}

#[test]
fn without_any_rate_it_retries_until_the_file_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grid");
    let text = format!("intensity_file = {path:?}");
    let error = Rig::new().start::<Carbon>(config(&text)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    let message = error.to_string();
    assert!(message.starts_with("plugins.carbon.intensity_file: ") && message.contains("grid"), "{message}");
    let text = format!("{text}\ncountry = \"FR\"");
    Rig::new().start::<Carbon>(config(&text)).unwrap();
    write(&path, "10", 1);
    Rig::new().start::<Carbon>(config(&format!("intensity_file = {path:?}"))).unwrap();
}

#[test]
fn each_part_of_a_window_is_charged_its_own_price() {
    let text =
        "tariff = 0.20\ntime_zone = 'UTC'\ntariff_times = [{ from = '01:00', to = '02:00', price = 0.50 }]";
    let mut s = Fixture::of::<Carbon>(config(text));
    let meter = s.energy(None);
    // The fixture's clock begins at the Unix epoch, at midnight: 45 minutes at 0.20, then 15 at 0.50.
    let batch = s.pass(900, 4500, &[(meter, KWH)]);
    let cost = last(&s, &batch, "hw.cost").unwrap();
    assert_eq!(cost.steps, 275_000_000);
    assert_eq!(last(&s, &batch, "wattrace.cost.rate").unwrap().value, 0.50);
    // An odd energy is split without loss.
    let batch = s.pass(4500, 8100, &[(meter, KWH + 7)]);
    assert_eq!(last(&s, &batch, "hw.cost").unwrap().steps, 275_000_000);
    let batch = s.pass(8100, 8101, &[(meter, 2 * KWH)]);
    assert_eq!(last(&s, &batch, "hw.cost").unwrap().steps, 475_000_000);
}

#[test]
fn a_price_from_a_file_takes_precedence_over_the_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("price");
    let text = format!(
        "tariff_times = [{{ from = '00:00', to = '24:00', price = 1.0 }}]\ntime_zone = 'UTC'\n\
         tariff_file = {file:?}\ncheck_interval = '1s'"
    );
    let mut s = Fixture::of::<Carbon>(config(&text));
    let meter = s.energy(None);
    let batch = s.pass(0, 10, &[(meter, KWH)]);
    assert_eq!(last(&s, &batch, "hw.cost").unwrap().value, 1.0, "the file is not there yet");
    write(&file, "0.1", 1);
    let batch = s.pass(10, 20, &[(meter, 2 * KWH)]);
    assert_eq!(last(&s, &batch, "hw.cost").unwrap().value, 1.1);
}

#[test]
fn energy_from_before_the_transform_was_opened_costs_nothing() {
    let mut s = Fixture::new();
    let old = s.energy(None);
    s.rig.clock.set(Timestamp(100 * SECOND));
    s.rig.start::<Carbon>(config("intensity = 100")).unwrap();
    let batch = s.pass(99, 101, &[(old, 1_000_000 * KWH)]);
    let first = last(&s, &batch, "hw.carbon").unwrap();
    assert_eq!((first.steps, first.series.start), (0, Timestamp(99 * SECOND)));
    let batch = s.pass(101, 102, &[(old, 1_000_001 * KWH)]);
    assert_eq!(last(&s, &batch, "hw.carbon").unwrap().value, 100.0);
}
