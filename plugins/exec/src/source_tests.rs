//! The source with programs that work, that misbehave, and that die.

use std::cell::RefCell;
use std::sync::Once;

use wattrace_api::SeriesId;

use super::*;

#[path = "roundtrip_tests.rs"]
mod roundtrip;

/// A program that answers each poll with what `answer` prints; `$n` is the poll's number.
fn answering(answer: &str) -> String {
    format!(
        r#"echo '{{"wattrace":"exec/1"}}'; n=0
while read -r line; do case $line in *'"poll"'*) n=$((n+1)); {answer};; esac; done"#
    )
}

/// A counter `x` that advances by 5 at each poll.
fn counting() -> String {
    answering(r#"echo '{"points":[{"metric":"x","unit":"J","kind":"counter","value":'$((n*5))'}]}'"#)
}

struct Scene {
    config: SourceConfig,
    registry: Arc<Registry>,
    clock: Clock,
    counts: Arc<AnomalyCounts>,
    domains: ClaimedDomains,
}

impl Scene {
    fn new(script: &str, pace: &str) -> Self {
        let config = SourceConfig {
            name: "test".to_owned(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            pace: pace.to_owned(),
            deadline: Duration::from_secs(20),
            ..SourceConfig::default()
        };
        Self {
            config,
            registry: Registry::new(),
            clock: Clock::manual(Timestamp(1_000_000_000)),
            counts: Arc::new(AnomalyCounts::new("source", "test")),
            domains: ClaimedDomains::default(),
        }
    }

    fn open(&self) -> ExecSource {
        let (registry, clock) = (self.registry.clone(), self.clock.clone());
        ExecSource::open(&self.config, registry, clock, self.counts.clone(), self.domains.clone()).unwrap()
    }

    /// Polls at `seconds`.
    fn poll(&self, source: &mut ExecSource, seconds: u64) -> (Batch, Result<(), Error>) {
        self.clock.set(Timestamp(seconds * 1_000_000_000));
        let mut batch = Batch::default();
        let tick = Tick::at(self.clock.now());
        let result = source.poll(&tick, &mut batch);
        (batch, result)
    }

    fn last(&self, source: &mut ExecSource) -> Batch {
        let mut batch = Batch::default();
        source.poll(&Tick { last: true, ..Tick::at(self.clock.now()) }, &mut batch).unwrap();
        batch
    }

    /// Polls a program at its own pace until it ends.
    fn until_gone(&self, source: &mut ExecSource) -> Batch {
        let (mut all, deadline) = (Batch::default(), Instant::now() + Duration::from_secs(20));
        loop {
            assert!(Instant::now() < deadline, "it does not end");
            let (batch, result) = self.poll(source, 1);
            all.append(&batch);
            match result {
                Ok(()) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Gone, "{error}");
                    return all;
                }
            }
        }
    }

    /// (series, seconds of the window, value in the metric's unit) of every point.
    fn points(&self, batch: &Batch) -> Vec<(SeriesId, (u64, u64), f64)> {
        let mut points = Vec::new();
        for segment in batch.segments() {
            let window = (segment.window.start.0 / 1_000_000_000, segment.window.end.0 / 1_000_000_000);
            for (id, value) in segment.points() {
                points.push((id, window, self.registry.get(id).unwrap().metric.in_units(value)));
            }
        }
        points
    }

    fn values(&self, batch: &Batch) -> Vec<f64> {
        self.points(batch).into_iter().map(|(_, _, value)| value).collect()
    }
}

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes to the [`LOG`] of the current thread.
struct ToThread;

impl std::io::Write for ToThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The log of this thread while `f` runs. The subscriber is global: `tracing` caches for each call site
/// whether any subscriber is interested, and a thread's own subscriber may come after that.
fn logged(f: impl FnOnce()) -> String {
    static SUBSCRIBED: Once = Once::new();
    SUBSCRIBED.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| ToThread).init());
    LOG.take();
    f();
    String::from_utf8(LOG.take()).unwrap()
}

#[test]
fn a_polled_program_answers_for_the_window_since_the_last_poll() {
    let scene = Scene::new(&counting(), "polled");
    let mut source = scene.open();
    let mut seen = Vec::new();
    for second in 2..5 {
        let (batch, result) = scene.poll(&mut source, second);
        result.unwrap();
        seen.extend(scene.points(&batch).into_iter().map(|(_, window, value)| (window, value)));
    }
    // It is not known when the counter was zero, so it counts from the first poll on.
    assert_eq!(seen, [((2, 2), 0.0), ((2, 3), 5.0), ((3, 4), 10.0)]);
    assert_eq!(scene.counts.total(), 0);
}

#[test]
fn malformed_lines_are_logged_counted_and_skipped() {
    let answer = r#"echo hello; echo '{"points":[{"metric":"x","vlaue":1}]}';
        head -c 300000 /dev/zero | tr '\0' x; echo;
        echo '{"ack":1}'; echo '{"points":[{"metric":"y","unit":"W","kind":"gauge","value":7}]}'"#;
    let scene = Scene::new(&answering(answer), "polled");
    let mut source = scene.open();
    let mut values = Vec::new();
    let log = logged(|| {
        let (batch, result) = scene.poll(&mut source, 2);
        result.unwrap();
        values = scene.values(&batch);
    });
    assert_eq!(values, [7.0]);
    let expected = [
        "source/exec/test, line 2: expected value at column 1",
        "source/exec/test, line 3: unknown field `vlaue`",
        "source/exec/test, line 4: it is longer than max_line",
        "source/exec/test, line 5: ack, lost and flushed are for outputs",
    ];
    for text in expected {
        assert!(log.contains(text), "{text} is not in {log}");
    }
    assert_eq!(scene.counts.get(Anomaly::BadLine), 4);
}

#[test]
fn invalid_points_are_refused_one_by_one() {
    let answer = r#"cat <<'END'
{"metric":{"name":"x","unit":"J","kind":"counter"}}
{"metric":{"name":"g","unit":"W","kind":"gauge"}}
{"metric":"x","value":10,"start_unix_nano":1}
{"metric":"x","value":9,"start_unix_nano":1}
{"metric":"x","value":-1}
{"metric":"x","value":"many"}
{"metric":"g","value":null}
{"metric":"g","value":1e999}
{"metric":"x","unit":"W","kind":"gauge","value":1}
{"metric":"undeclared","value":1}
{"metric":"x","value":11,"time_unix_nano":99000000000}
{"metric":"g","value":3,"consumer":{"type":"gnome"}}
{"points":[{"metric":"x","value":12,"start_unix_nano":1}]}
END
"#;
    let scene = Scene::new(&answering(answer), "polled");
    let mut source = scene.open();
    let mut values = Vec::new();
    let log = logged(|| {
        let (batch, result) = scene.poll(&mut source, 2);
        result.unwrap();
        values = scene.values(&batch);
    });
    assert_eq!(values, [10.0, 12.0]);
    assert_eq!(scene.counts.get(Anomaly::BadPoint), 9, "{log}");
    for (line, text) in [
        (5, "went backwards"),
        (6, "never negative"),
        (7, "not a number"),
        (8, "not a number"),
        (9, "not a number"),
        (10, "declared twice: as counter in J and as gauge in W"),
        (11, "was not declared"),
        (12, "in the future"),
        (13, "`gnome`"),
    ] {
        let logged = log.lines().find(|l| l.contains(&format!("line {line}:"))).unwrap_or_default();
        assert!(logged.contains(text), "{text}: {log}");
    }
}

#[test]
fn a_counter_without_start_that_decreases_was_restarted() {
    let scene = Scene::new(
        &answering(r#"echo '{"points":[{"metric":"x","unit":"J","kind":"counter","value":'$((7-n))'}]}'"#),
        "polled",
    );
    let mut source = scene.open();
    let (first, _) = scene.poll(&mut source, 2);
    let (second, result) = scene.poll(&mut source, 3);
    result.unwrap();
    assert_eq!((scene.values(&first), scene.values(&second)), (vec![0.0], vec![5.0]));
    assert_eq!(second.ended(), [scene.points(&first)[0].0]);
    assert_eq!(scene.counts.get(Anomaly::Reset), 1);
}

#[test]
fn the_series_of_a_killed_program_end_and_its_next_start_is_a_restart() {
    let scene = Scene::new(&format!("echo $$ >&2; {}", counting()), "polled");
    let mut source = scene.open();
    let (first, _) = scene.poll(&mut source, 2);
    let series = scene.points(&first)[0].0;
    source.child.kill();
    let (batch, result) = scene.poll(&mut source, 3);
    let error = result.unwrap_err();
    assert_eq!((error.kind(), batch.ended()), (ErrorKind::Fatal, [series].as_slice()), "{error}");
    assert!(error.to_string().contains("signal 9"), "{error}");
    drop(source);
    let mut again = scene.open();
    let (batch, result) = scene.poll(&mut again, 4);
    result.unwrap();
    assert_eq!(scene.values(&batch), [0.0]);
    let (deaths, restarts) = (scene.counts.get(Anomaly::Death), scene.counts.get(Anomaly::Restart));
    assert_eq!((deaths, restarts), (1, 1));
}

#[test]
fn a_program_that_does_not_answer_is_killed() {
    let script = answering(r#"if [ $n = 1 ]; then echo '{"points":[]}'; else sleep 1000; fi"#);
    let mut scene = Scene::new(&script, "polled");
    let mut source = scene.open();
    scene.poll(&mut source, 2).1.unwrap();
    source.timeout = Duration::from_millis(100);
    scene.config.deadline = source.timeout;
    let (_, result) = scene.poll(&mut source, 3);
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().contains("did not answer a poll within 100ms"), "{error}");
    assert_eq!(source.child.queue.exit(Duration::from_secs(20)).unwrap().description, "signal 9");
    assert_eq!(scene.counts.get(Anomaly::Timeout), 1);
}

#[test]
fn a_program_with_another_protocol_version_is_refused() {
    let scene = Scene::new(r#"echo '{"wattrace":"exec/2"}'; read x"#, "polled");
    let mut source = scene.open();
    let error = scene.poll(&mut source, 2).1.unwrap_err();
    assert!(error.kind() == ErrorKind::Fatal && error.to_string().contains("speaks exec/2"), "{error}");
}

#[test]
fn the_program_chooses_the_kind_of_its_errors() {
    for (kind, expected) in
        [("gone", ErrorKind::Gone), ("retry", ErrorKind::Retry), ("fatal", ErrorKind::Fatal)]
    {
        let answer = format!(r#"echo '{{"error":{{"kind":"{kind}","message":"no UPS"}}}}'"#);
        let scene = Scene::new(&answering(&answer), "polled");
        let mut source = scene.open();
        let error = scene.poll(&mut source, 2).1.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (expected, "no UPS"));
    }
}

#[test]
fn series_may_end_and_an_answer_may_have_many_lines() {
    let answer = r#"if [ $n = 1 ]; then
        printf '{"points":[{"metric":"x","unit":"W","kind":"gauge","value":1,"attributes":{"a":"b"}}],'
        echo '"more":true}'
        echo '{"points":[{"metric":"x","value":2}]}'
        else echo '{"end":[{"metric":"x","attributes":{"a":"b"}},{"metric":"never"}]}'; fi"#;
    let scene = Scene::new(&answering(answer), "polled");
    let mut source = scene.open();
    let (first, _) = scene.poll(&mut source, 2);
    let (second, result) = scene.poll(&mut source, 3);
    result.unwrap();
    let points = scene.points(&first);
    assert_eq!(points.len(), 2);
    assert_eq!(second.ended(), [points[0].0]);
    assert_eq!(scene.counts.get(Anomaly::BadPoint), 1);
}

#[test]
fn the_last_lines_are_read_and_stopping_takes_less_than_a_second() {
    let script =
        format!("{}; echo '{{\"metric\":\"w\",\"unit\":\"W\",\"kind\":\"gauge\",\"value\":3}}'", counting());
    let scene = Scene::new(&script, "polled");
    let mut source = scene.open();
    scene.poll(&mut source, 2).1.unwrap();
    assert_eq!(scene.values(&scene.last(&mut source)), [5.0, 3.0]);
    assert!(source.child.queue.exit(Duration::ZERO).unwrap().success);

    let scene = Scene::new(&format!("trap '' TERM; {}; while :; do sleep 1; done", counting()), "polled");
    let mut source = scene.open();
    scene.poll(&mut source, 2).1.unwrap();
    let started = Instant::now();
    scene.last(&mut source);
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    assert_eq!(source.child.queue.exit(Duration::from_secs(20)).unwrap().description, "signal 9");
}

#[test]
fn the_number_of_series_is_limited() {
    let answer =
        r#"echo '{"points":[{"metric":"x","unit":"W","kind":"gauge","value":1,"attributes":{"n":'$n'}}]}'"#;
    let mut scene = Scene::new(&answering(answer), "polled");
    scene.config.max_series = 3;
    let mut source = scene.open();
    let points: usize = (2..10).map(|second| scene.poll(&mut source, second).0.len()).sum();
    assert_eq!((points, scene.counts.get(Anomaly::BadPoint)), (3, 5));
}

#[test]
fn a_process_may_be_renamed_within_a_series() {
    let answer = r#"echo '{"points":[{"metric":"x","unit":"J","kind":"counter","value":1,"consumer":
        {"type":"process","id":"7","start_unix_nano":9},"attributes":{"process.executable.name":"'$n'"}}]}'"#;
    let scene = Scene::new(&answering(&answer.replace("\n", "")), "polled");
    let mut source = scene.open();
    let (first, _) = scene.poll(&mut source, 2);
    let (second, _) = scene.poll(&mut source, 3);
    let (before, after) = (scene.points(&first)[0].0, scene.points(&second)[0].0);
    assert_eq!(before, after);
    let series = scene.registry.get(after).unwrap();
    let name = series.consumer.as_ref().unwrap().attribute("process.executable.name");
    assert_eq!(name, Some("2".into()));
}

#[test]
fn texts_of_points_are_bounded_and_what_is_beyond_is_counted_and_reported_once() {
    let point = r#"{"points":[{"metric":"x","unit":"W","kind":"gauge","value":1,
        "attributes":{"n":'$n',"KEY":"TEXT"}}]}"#
        .replace('\n', "");
    for (key, text, passes) in [("k", 4096, true), ("k", 4097, false), (&*"k".repeat(257), 1, false)] {
        let line = point.replace("KEY", key).replace("TEXT", &"t".repeat(text));
        let scene = Scene::new(&answering(&format!("echo '{line}'")), "polled");
        let mut source = scene.open();
        let mut points = 0;
        let log = logged(|| points = (2..22).map(|second| scene.poll(&mut source, second).0.len()).sum());
        let refused = if passes { 0 } else { 20 };
        assert_eq!((points, scene.counts.get(Anomaly::BadPoint)), (20 - refused, refused as u64), "{log}");
        assert_eq!(log.matches("is refused").count(), usize::from(!passes), "{log}");
    }
}

#[test]
fn the_names_of_a_programs_series_and_consumers_take_bounded_memory() {
    // 10,000 series of 40 kB were 1.1 GB.
    let text = "t".repeat(4000);
    let attributes: Vec<_> = (0..10).map(|n| format!("\"a{n}\":\"{text}\"")).collect();
    let line = format!(
        r#"{{"metric":"x","unit":"W","kind":"gauge","value":1,"attributes":{{"n":'$i',{}}}}}"#,
        attributes.join(",")
    );
    let answer =
        format!("i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo '{line}'; done; echo '{{\"points\":[]}}'");
    let scene = Scene::new(&answering(&answer), "polled");
    let mut source = scene.open();
    let points = scene.poll(&mut source, 2).0.len();
    assert!((90..200).contains(&points), "8 MiB of names of 80 kB: {points}");
    assert_eq!(points as u64 + scene.counts.get(Anomaly::BadPoint), 400);

    let answer = r#"echo '{"points":[{"metric":"x","unit":"J","kind":"counter","value":'$n',"consumer":
        {"type":"process","id":"7","start_unix_nano":9},"attributes":{"process.a'$n'":"b"}}]}'"#;
    let scene = Scene::new(&answering(&answer.replace("\n", "")), "polled");
    let mut source = scene.open();
    let points: usize = (2..102).map(|second| scene.poll(&mut source, second).0.len()).sum();
    assert_eq!((points, scene.counts.get(Anomaly::BadPoint)), (64, 36), "one consumer's attributes");
}
