//! The output with programs that acknowledge, that do not, and that die.

use std::fs;

use wattrace_api::testing::Rig;
use wattrace_api::{ErrorKind, Resource, SeriesId, Timestamp, Window, metric};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A program that runs `ack` for each point, with the point's number in `$n`, and answers flushes.
fn acking(ack: &str) -> String {
    format!(
        r#"echo '{{"wattrace":"exec/1"}}'; n=0
while read -r line; do case $line in
'{{"metric"'*) n=$((n+1)); {ack};;
'{{"flush":'*) f=${{line#*:}}; echo '{{"flushed":'${{f%\}}}}'}}';;
esac; done"#
    )
}

struct Scene {
    rig: Rig,
    series: Vec<SeriesId>,
    config: OutputConfig,
    counts: Arc<AnomalyCounts>,
}

impl Scene {
    fn new(script: &str) -> Self {
        let mut rig = Rig::new();
        let series = (0..3).map(|n| rig.series(&metric::HW_ENERGY, Resource::package(n))).collect();
        let config = OutputConfig {
            name: "test".to_owned(),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            deadline: TIMEOUT,
            ..OutputConfig::default()
        };
        Self { rig, series, config, counts: Arc::new(AnomalyCounts::new("output", "test")) }
    }

    fn open(&self) -> ExecOutput {
        let (registry, clock) = (self.rig.registry.clone(), self.rig.clock.clone());
        ExecOutput::open(&self.config, registry, clock, self.counts.clone()).unwrap()
    }

    /// A point of each series.
    fn batch(&self) -> Batch {
        let points: Vec<_> = self.series.iter().map(|&id| (id, 1_500_000)).collect();
        self.rig.batch(Window::new(Timestamp(0), Timestamp(1_000_000_000)), &points)
    }
}

#[test]
fn every_point_is_a_line_and_is_acknowledged_by_count() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let keep = format!(r#"echo "$line" >> {}; echo '{{"ack":'$n'}}'"#, file.path().display());
    let scene = Scene::new(&acking(&keep));
    let mut output = scene.open();
    output.write(&scene.batch()).unwrap();
    output.write(&scene.batch()).unwrap();
    assert!(output.undelivered() <= 6);
    output.flush().unwrap();
    assert_eq!(output.undelivered(), 0);
    let written = fs::read_to_string(file.path()).unwrap();
    let expected = r#"{"metric":"hw.energy","unit":"J","kind":"counter","start_unix_nano":0,
        "time_unix_nano":1000000000,"value":1.500000,"attributes":{"cpu.package":"2"},
        "resource":{"id":"2","type":"package"}}"#;
    let last: serde_json::Value = serde_json::from_str(written.lines().last().unwrap()).unwrap();
    assert_eq!(last, serde_json::from_str::<serde_json::Value>(expected).unwrap());
    assert_eq!((written.lines().count(), scene.counts.total()), (6, 0));
}

#[test]
fn points_not_acknowledged_at_death_are_undelivered_but_not_those_of_the_failed_batch() {
    let scene = Scene::new(&acking(r#"[ $n -le 2 ] && echo '{"ack":'$n'}'; [ $n = 6 ] && kill -9 $$"#));
    let mut output = scene.open();
    output.write(&scene.batch()).unwrap();
    output.write(&scene.batch()).unwrap();
    output.child.queue.exit(TIMEOUT).unwrap();
    let error = output.write(&scene.batch()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    assert!(error.to_string().contains("signal 9"), "{error}");
    // Six were sent and two acknowledged. The three of the failed batch are written again.
    assert_eq!(output.undelivered(), 4);
    assert_eq!(scene.counts.get(Anomaly::Death), 1);
    drop(output);
    scene.open().write(&scene.batch()).unwrap();
    assert_eq!(scene.counts.get(Anomaly::Restart), 1);
}

#[test]
fn points_that_the_program_gives_up_are_losses() {
    let scene = Scene::new(&acking(r#"echo '{"lost":1}'; echo '{"ack":'$n'}'"#));
    let mut output = scene.open();
    output.write(&scene.batch()).unwrap();
    output.flush().unwrap();
    assert!(output.take_losses().contains(&("the program gave them up", 3)));
    assert!(output.take_losses().iter().all(|(_, count)| *count == 0));
}

#[test]
fn invalid_acknowledgements_are_reported() {
    let scene = Scene::new(&acking(r#"echo '{"ack":1000}'; echo rubbish; echo '{"points":[]}'"#));
    let mut output = scene.open();
    output.write(&scene.batch()).unwrap();
    output.flush().unwrap();
    assert_eq!(scene.counts.get(Anomaly::BadLine), 9);
}

#[test]
fn a_program_that_does_not_answer_a_flush_is_killed() {
    let scene = Scene::new(r#"echo '{"wattrace":"exec/1"}'; exec cat >/dev/null"#);
    let mut output = scene.open();
    output.timeout = Duration::from_millis(100);
    output.write(&scene.batch()).unwrap();
    let error = output.flush().unwrap_err();
    assert!(error.to_string().contains("did not answer a flush within 100ms"), "{error}");
    assert_eq!(output.child.queue.exit(TIMEOUT).unwrap().description, "signal 9");
    assert_eq!((output.undelivered(), scene.counts.get(Anomaly::Timeout)), (3, 1));
}

#[test]
fn a_program_that_does_not_read_is_killed_in_time() {
    let scene = Scene::new(r#"echo '{"wattrace":"exec/1"}'; sleep 1000"#);
    let mut output = scene.open();
    output.timeout = Duration::from_millis(200);
    let (started, mut taken) = (Instant::now(), 0);
    let error = loop {
        // The pipe has room for some batches.
        match output.write(&scene.batch()) {
            Ok(()) => taken += 3,
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("did not read within 200ms"), "{error}");
    // The failed batch is written to the next child, and is not lost.
    assert_eq!(output.undelivered(), taken);
    assert!(started.elapsed() < TIMEOUT);
}

#[test]
fn a_program_that_writes_much_before_it_reads_does_not_deadlock() {
    // More than the pipe and the queue hold, before it reads at all.
    let script = r#"echo '{"wattrace":"exec/1"}'; yes '{"ack":0}' | head -c 9000000; exec cat >/dev/null"#;
    let scene = Scene::new(script);
    let mut output = scene.open();
    for _ in 0..2000 {
        output.write(&scene.batch()).unwrap();
    }
}

#[test]
fn ends_of_series_are_sent_by_name() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!(r#"echo '{{"wattrace":"exec/1"}}'; exec cat > {}"#, file.path().display());
    let scene = Scene::new(&script);
    let mut output = scene.open();
    let mut batch = scene.batch();
    batch.end(scene.series[1]);
    output.write(&batch).unwrap();
    drop(output);
    let written = fs::read_to_string(file.path()).unwrap();
    let end: serde_json::Value = serde_json::from_str(written.lines().last().unwrap()).unwrap();
    assert_eq!(end["end"][0]["resource"]["id"], "1");
    assert_eq!(end["end"][0]["metric"], "hw.energy");
    assert_eq!(end["end"].as_array().unwrap().len(), 1);
}
