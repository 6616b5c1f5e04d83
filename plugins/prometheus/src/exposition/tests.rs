use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Identity, Resource, SeriesId, SeriesSpec, Value, Window, metric,
};

use super::*;

const SECOND: u64 = 1_000_000_000;

struct Bench {
    rig: Rig,
    exhibit: Exhibit,
    clock: Clock,
}

impl Bench {
    fn new(keep_ended: Duration) -> Self {
        let (rig, clock) = (Rig::new(), Clock::manual(Timestamp(SECOND)));
        let table = Table::new(rig.registry.clone(), 1 << 20);
        Self { exhibit: Exhibit::new(table, clock.clone(), keep_ended), rig, clock }
    }

    fn process(pid: i64) -> Arc<Consumer> {
        let id = pid.to_string().into();
        let identity = Identity { kind: ConsumerKind::Process, id, start_unix_nano: pid as u64 };
        Arc::new(Consumer::new(identity, None, vec![Attribute::new("process.pid", pid)]))
    }

    fn open(&self, consumer: &Arc<Consumer>) -> SeriesId {
        let energy = self.rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap();
        let spec = SeriesSpec::new(energy, Resource::HOST, Timestamp(SECOND / 2));
        self.rig.registry.open(SeriesSpec { consumer: Some(consumer.clone()), ..spec })
    }

    /// Writes values for the second that ends at `end`, and ends.
    fn write(&self, end: u64, values: &[(SeriesId, u64)], ended: &[SeriesId]) {
        let mut batch = Batch::default();
        batch.begin(Window::new(Timestamp((end - 1) * SECOND), Timestamp(end * SECOND)));
        values.iter().for_each(|&(id, steps)| batch.push(id, Value::of_steps(steps)));
        ended.iter().for_each(|&id| batch.end(id));
        self.exhibit.write(&batch);
    }

    /// The samples that a scrape at `second` gets, without `_created`.
    fn scrape(&self, second: u64) -> Vec<String> {
        self.clock.set(Timestamp(second * SECOND));
        samples(&self.exhibit.expose(Format::OpenMetrics, true))
    }
}

fn text(exposition: &Exposition) -> String {
    String::from_utf8(exposition.body().to_vec()).unwrap()
}

fn samples(exposition: &Exposition) -> Vec<String> {
    let text = text(exposition);
    let lines = text.lines().filter(|line| line.starts_with("wattrace") && !line.contains("_created"));
    lines.map(|line| line.replace("wattrace_consumer_energy_joules_total", "").replace(TYPE, "")).collect()
}

const TYPE: &str = "wattrace_consumer_type=\"process\",";

#[test]
fn open_metrics_has_type_unit_help_created_and_an_end() {
    let bench = Bench::new(Duration::ZERO);
    let series = bench.open(&Bench::process(7));
    bench.write(2, &[(series, 1_234_567)], &[]);
    let text = text(&bench.exhibit.expose(Format::OpenMetrics, false));
    let expected = "\
# HELP wattrace_consumer_energy_joules Energy attributed to a consumer, per energy domain
# TYPE wattrace_consumer_energy_joules counter
# UNIT wattrace_consumer_energy_joules joules
wattrace_consumer_energy_joules_total{wattrace_consumer_type=\"process\",process_pid=\"7\"} 1.234567
wattrace_consumer_energy_joules_created{wattrace_consumer_type=\"process\",process_pid=\"7\"} 0.500
# EOF
";
    assert_eq!(text, expected);
}

#[test]
fn the_older_format_describes_the_sample_and_has_no_created() {
    let bench = Bench::new(Duration::ZERO);
    let series = bench.open(&Bench::process(7));
    bench.write(2, &[(series, 5_000_000)], &[]);
    let text = text(&bench.exhibit.expose(Format::Prometheus, false));
    let expected = "\
# HELP wattrace_consumer_energy_joules_total Energy attributed to a consumer, per energy domain
# TYPE wattrace_consumer_energy_joules_total counter
wattrace_consumer_energy_joules_total{wattrace_consumer_type=\"process\",process_pid=\"7\"} 5
";
    assert_eq!(text, expected);
}

#[test]
fn an_ended_series_is_in_one_more_scrape_whoever_else_looks() {
    let bench = Bench::new(Duration::ZERO);
    let (a, b) = (bench.open(&Bench::process(1)), bench.open(&Bench::process(2)));
    bench.write(2, &[(a, 1_000_000), (b, 2_000_000)], &[]);
    let both = ["{process_pid=\"1\"} 1", "{process_pid=\"2\"} 2"];
    assert_eq!(bench.scrape(2), both);
    bench.write(4, &[(a, 3_000_000)], &[a]);
    bench.clock.set(Timestamp(4 * SECOND));
    bench.exhibit.expose(Format::OpenMetrics, false);
    bench.exhibit.expose(Format::Prometheus, false);
    assert_eq!(bench.exhibit.unscraped(), 1, "a browser does not use it up");
    assert_eq!(bench.scrape(8), ["{process_pid=\"2\"} 2", "{process_pid=\"1\"} 3"]);
    assert_eq!((bench.scrape(9), bench.exhibit.unscraped()), (vec![both[1].to_owned()], 0));
    assert!(bench.exhibit.take_losses().is_empty());
}

#[test]
fn a_text_is_made_at_most_once_a_second() {
    let bench = Bench::new(Duration::ZERO);
    let series = bench.open(&Bench::process(1));
    bench.write(2, &[(series, 1_000_000)], &[]);
    assert_eq!(bench.scrape(2), ["{process_pid=\"1\"} 1"]);
    bench.write(2, &[(series, 1_500_000)], &[]);
    bench.clock.set(Timestamp(3 * SECOND - 1));
    let shown = samples(&bench.exhibit.expose(Format::OpenMetrics, true));
    assert_eq!(shown, ["{process_pid=\"1\"} 1"], "finer than a second is nobody's business");
    assert_eq!(bench.scrape(3), ["{process_pid=\"1\"} 1.5"]);
}

#[test]
fn an_exec_ends_the_series_of_the_old_name_and_the_new_one_begins_at_zero() {
    let bench = Bench::new(Duration::ZERO);
    let process = Bench::process(1);
    let named = |name: &'static str| process.update(vec![Attribute::new("process.executable.name", name)]);
    named("sh");
    let series = bench.open(&process);
    bench.write(2, &[(series, 1_000_000)], &[]);
    named("cc1");
    bench.write(3, &[(series, 4_000_000)], &[]);
    let label = |name| format!("{{process_pid=\"1\",process_executable_name=\"{name}\"}}");
    assert_eq!(bench.scrape(3), [format!("{} 3", label("cc1")), format!("{} 1", label("sh"))]);
    let exposition = text(&bench.exhibit.expose(Format::OpenMetrics, false));
    assert!(exposition.contains("\"cc1\"} 2.000\n"), "it began with the last value before: {exposition}");
    assert_eq!(bench.scrape(4), [format!("{} 3", label("cc1"))]);
}

#[test]
fn equal_labels_and_clashing_names_are_left_out_and_counted() {
    let bench = Bench::new(Duration::ZERO);
    let (a, b) = (bench.open(&Bench::process(1)), bench.open(&Bench::process(1)));
    let clash = wattrace_api::Metric::counter(
        "wattrace.consumer_energy",
        wattrace_api::Unit::Joule,
        metric::MICROJOULE,
        "another with the same name",
    );
    let clash = bench.rig.registry.metric(&clash).unwrap();
    let c = bench.rig.registry.open(SeriesSpec::new(clash, Resource::HOST, Timestamp(0)));
    bench.write(2, &[(a, 1_000_000), (b, 2_000_000), (c, 3_000_000)], &[]);
    assert_eq!(bench.scrape(2), ["{process_pid=\"1\"} 1"]);
    assert_eq!(bench.exhibit.take_losses(), [("duplicate_labels", 1), ("name_clash", 1)]);
    assert!(bench.exhibit.take_losses().is_empty());
}

#[test]
fn the_compressed_text_is_the_text() {
    use std::io::Read as _;
    let bench = Bench::new(Duration::ZERO);
    let series = bench.open(&Bench::process(1));
    bench.write(2, &[(series, 1)], &[]);
    let exposition = bench.exhibit.expose(Format::OpenMetrics, true);
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&*exposition.gzipped()).read_to_end(&mut text).unwrap();
    assert_eq!(text, exposition.body());
}
