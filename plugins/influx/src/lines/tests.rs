use wattrace_api::testing::Rig;
use wattrace_api::{
    Attribute, Consumer, ConsumerKind, Identity, Metric, Resource, SeriesSpec, Unit, Window, metric,
};

use super::*;
use crate::config::InfluxConfig;

fn fixture(rig: &Rig, request: usize) -> (Lines, Outbox) {
    let config = InfluxConfig {
        database: "d".to_owned(),
        spool: "none".into(),
        tags: [("host.name".to_owned(), "node 1".to_owned())].into(),
        ..InfluxConfig::default()
    };
    let settings = Settings { request_bytes: request, gzip: false, ..Settings::resolve(config).unwrap() };
    (
        Lines::new(&settings, rig.registry.clone(), rig.clock.clone()),
        Outbox::new(&settings, rig.clock.clone()),
    )
}

fn window(end: u64) -> Window {
    Window::new(Timestamp(end - 1), Timestamp(end))
}

/// All lines that were written, in order.
fn written(lines: &mut Lines, outbox: &mut Outbox) -> Vec<String> {
    lines.seal(outbox);
    let mut all = Vec::new();
    while let Some(request) = outbox.first() {
        all.extend(std::str::from_utf8(&request.body).unwrap().lines().map(str::to_owned));
        outbox.remove_first();
    }
    all
}

#[test]
fn a_counter_begins_at_zero_and_a_gauge_does_not() {
    let mut rig = Rig::new();
    let energy = rig.series(&metric::HW_ENERGY, Resource::package(0));
    let power = rig.series(&Metric::gauge("a power", Unit::Watt, ""), Resource::HOST);
    let (mut lines, mut outbox) = fixture(&rig, 1 << 20);
    lines.take(&rig.batch(window(10), &[(energy, 1_500_000)]), &mut outbox);
    let mut batch = Batch::default();
    batch.begin(window(20));
    batch.push(power, Value::of_gauge(0.1));
    batch.push(power, Value::of_gauge(f64::NAN));
    batch.push(energy, Value::of_steps(1_500_001));
    lines.take(&batch, &mut outbox);
    assert_eq!(
        written(&mut lines, &mut outbox),
        [
            r"hw.energy,cpu.package=0,host.name=node\ 1,unit=J value=0 0",
            r"hw.energy,cpu.package=0,host.name=node\ 1,unit=J value=1.5 10",
            r"a\ power,host.name=node\ 1,unit=W value=0.1 20",
            r"hw.energy,cpu.package=0,host.name=node\ 1,unit=J value=1.500001 20",
        ]
    );
    assert_eq!(lines.take_losses(), [("unknown_series", 0), ("not_a_number", 1)]);
}

#[test]
fn an_exec_begins_another_series_at_zero_where_the_old_one_stood() {
    let rig = Rig::new();
    let metric = rig.registry.metric(&metric::CONSUMER_ENERGY).unwrap();
    let identity = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 3 };
    let name = |name: &str| vec![Attribute::new("process.executable.name", name)];
    let consumer = Arc::new(Consumer::new(identity, None, name("sh")));
    let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(3));
    let id = rig.registry.open(SeriesSpec { consumer: Some(consumer.clone()), ..spec });
    let (mut lines, mut outbox) = fixture(&rig, 1 << 20);
    let mut point = |time, steps| {
        let mut batch = Batch::default();
        batch.begin(window(time));
        batch.push(id, Value::of_steps(steps));
        lines.take(&batch, &mut outbox);
    };
    point(10, 4_000_000);
    consumer.update(name("true"));
    point(20, 4_000_007);
    let all = written(&mut lines, &mut outbox);
    let of = |name: &str| {
        let values = all.iter().filter(|line| line.contains(&format!("name={name},")));
        values.map(|line| line.split_once(" value=").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        (of("sh"), of("true")),
        (vec!["0 3".into(), "4 10".into()], vec!["0 10".into(), "0.000007 20".into()])
    );
}

#[test]
fn a_batch_is_cut_into_requests_of_whole_lines() {
    let mut rig = Rig::new();
    let points: Vec<_> =
        (0..100).map(|n| (rig.series(&metric::HW_ENERGY, Resource::package(n)), 7)).collect();
    let (mut lines, mut outbox) = fixture(&rig, 500);
    lines.take(&rig.batch(window(10), &points), &mut outbox);
    lines.seal(&mut outbox);
    let (mut requests, mut count) = (0, 0);
    while let Some(request) = outbox.first() {
        assert!(request.body.len() < 600 && request.body.ends_with(b"\n"));
        (requests, count) = (requests + 1, count + request.lines);
        outbox.remove_first();
    }
    assert_eq!(count, 200);
    assert!(requests > 10, "{requests}");
}
