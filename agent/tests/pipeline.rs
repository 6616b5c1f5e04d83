//! The running pipeline under control: status, pause, trigger, flush, intervals, and elements that do not
//! return.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod scene;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use scene::{Does, OFTEN, STOPPING, Scene, Watched, assert_each_once, books, find, pattern, soon};
use tokio::time::Instant;
use wattrace::config::{QueuePolicy, Settings};
use wattrace::pattern::Pattern;
use wattrace::pipeline::control::ControlError;
use wattrace::pipeline::status::Condition;
use wattrace_api::{Batch, Error, Tick, Trigger, Value};

#[test]
fn status_shows_what_every_element_did_and_why_it_does_not_work() {
    let mut scene = Scene::new();
    scene.steady("steady");
    scene.source("missing", Trigger::every(OFTEN), || {
        Err::<Does<fn(&Tick, &mut Batch) -> Result<(), Error>>, _>(Error::gone("no such device; plug it in"))
    });
    scene.transform("odd", || {
        Ok(Does(|batch: &mut Batch| {
            batch.retain(|_, value| value.steps() % 2 == 1);
            Ok(())
        }))
    });
    let log = scene.log();
    scene.output("picky", |n| if n == 2 { Err(Error::retry("the disk hiccupped")) } else { Ok(()) });
    let running = scene.start(64);
    log.until("points came by", |log| log.last("steady") > 50);
    running.until("the output works again", |_| running.status("output/test/picky").calls > 3);

    let source = running.status("source/test/steady");
    assert_eq!((source.state, source.errors, source.reason.as_str()), (Condition::Running, 0, ""));
    let ticks = source.ticks.unwrap();
    assert_eq!(ticks.interval_ns, 1_000_000);
    assert!(ticks.ticks > 50 && source.points_out >= ticks.ticks, "{source:?}");
    assert!(ticks.lateness_max_ns >= ticks.lateness_mean_ns && ticks.lateness_mean_ns > 0, "{ticks:?}");
    let missing = running.status("source/test/missing");
    assert_eq!((missing.state, missing.calls), (Condition::Absent, 0), "it was never there");
    assert_eq!(missing.reason, "no such device; plug it in");
    let odd = running.status("transform/test/odd");
    assert!(odd.points_in > odd.points_out && odd.points_out > 20 && odd.queue.is_none(), "{odd:?}");
    let picky = running.status("output/test/picky");
    assert_eq!((picky.state, picky.errors), (Condition::Running, 1), "it works again");
    assert_eq!(picky.last_error, "the disk hiccupped", "and the last error is still shown");
    let queue = picky.queue.unwrap();
    assert_eq!((queue.capacity, queue.policy), (64, QueuePolicy::DropOldest));
    assert!(serde_json::to_string(&picky).unwrap().contains(r#""state":"running""#));
    assert_eq!(running.control().status(&pattern("output/*")).len(), 2);
    running.stop(STOPPING);
}

#[test]
fn a_paused_element_stands_still_and_goes_on_where_it_was() {
    let mut scene = Scene::new();
    scene.steady("paused");
    scene.steady("neighbour");
    let tagged = scene.opener();
    scene.transform("tag", move || {
        let tag = tagged("tag");
        Ok(Does(move |batch: &mut Batch| {
            batch.push(tag, Value::of_steps(1));
            Ok(())
        }))
    });
    let log = scene.log();
    let (held, _) = scene.output("held", |_| Ok(()));
    let running = scene.start(64);
    log.until("both tick", |log| log.last("paused") > 3 && log.last("neighbour") > 3);
    let control = running.control();
    let done = control.pause(&pattern("*/test/paused")).unwrap();
    assert_eq!(done.done, ["source/test/paused"]);
    control.pause(&pattern("transform/*")).unwrap();
    control.pause(&pattern("output/test/held")).unwrap();
    assert_eq!(running.status("source/test/paused").state, Condition::Paused);
    // One poll may have been under way. After it, nothing.
    let mark = log.change(|log| log.last("neighbour"));
    log.until("the neighbour ticks on", |log| log.last("neighbour") > mark + 20);
    let (at, tags) = log.change(|log| (log.last("paused"), log.of("tag").len()));
    log.until("the neighbour ticks on and on", |log| log.last("neighbour") > mark + 100);
    assert_eq!(log.change(|log| (log.last("paused"), log.of("tag").len())), (at, tags));
    let held_at = held.change(|log| log.last("neighbour"));
    assert!(held_at < mark + 100, "it took nothing while paused");

    assert_eq!(
        running.wait_for(control.trigger(&pattern("source/test/paused"), soon())).unwrap().done.len(),
        1
    );
    log.until("it was polled once, on request", |log| log.last("paused") == at + 1);
    let missed = running.status("source/test/paused").ticks.unwrap().missed;
    control.resume(&Pattern::all()).unwrap();
    log.until("it goes on", |log| log.last("paused") > at + 10 && log.of("tag").len() > tags + 10);
    held.until("the output goes on", |log| log.last("neighbour") > mark + 100);
    let now = running.status("source/test/paused").ticks.unwrap().missed;
    assert!(now < missed + 50, "what did not tick while paused is not missed: {missed} {now}");
    let health = running.stop(STOPPING);
    let [_, given, _] = books(&health, "source/test/paused");
    log.change(|log| assert_each_once("the paused source", &log.of("paused"), given));
    assert!(
        find(&health, "output/test/held").lost.load(Relaxed) > 0,
        "its queue was full, and that was counted"
    );
}

#[test]
fn a_manual_source_is_polled_on_request_and_any_interval_can_be_set() {
    let mut scene = Scene::new();
    let open = scene.opener();
    scene.counting("manual", Trigger::MANUAL, open);
    scene.steady("steady");
    let log = scene.log();
    let running = scene.start(64);
    log.until("the neighbour ticks", |log| log.last("steady") > 30);
    assert_eq!(log.change(|log| log.last("manual")), 0);
    let control = running.control();
    for n in 1..=3 {
        running.wait_for(control.trigger(&pattern("source/test/manual"), soon())).unwrap();
        assert_eq!(running.status("source/test/manual").points_out, n);
    }
    control.set_interval(&pattern("source/test/manual"), OFTEN).unwrap();
    log.until("it ticks", |log| log.last("manual") > 20);
    assert_eq!(running.status("source/test/manual").ticks.unwrap().interval_ns, 1_000_000);
    control.set_interval(&pattern("source/*"), Duration::from_secs(3600)).unwrap();
    // A tick may have been under way.
    running.wait_for(control.trigger(&pattern("source/*"), soon())).unwrap();
    let at = running.status("source/test/steady").calls;
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(running.status("source/test/steady").calls, at);

    let error = control.set_interval(&pattern("source/*"), Duration::from_micros(1)).unwrap_err();
    assert_eq!(error.to_string(), "interval 1us: must be 1ms to 1day, or 0s for none");
    let error = control.set_interval(&pattern("output/*"), OFTEN).unwrap_err();
    assert_eq!(error.to_string(), "output/* matches output/test/log, and `set-interval` is for sources only");
    let error = control.pause(&pattern("source/rapl/*")).unwrap_err();
    assert!(matches!(error, ControlError::NoMatch { .. }), "{error}");
    assert!(error.to_string().contains("source/test/manual, source/test/steady"), "{error}");
    running.stop(STOPPING);
}

#[test]
fn a_flush_reaches_what_was_written_before_it_and_a_late_one_is_reported() {
    struct Buffered(Vec<u64>, Arc<Watched<Vec<u64>>>, Arc<Watched<bool>>);
    impl wattrace_api::Output for Buffered {
        fn write(&mut self, batch: &Batch) -> Result<(), Error> {
            self.0.extend(batch.segments().flat_map(|s| s.values.iter().map(|v| v.steps())));
            Ok(())
        }
        fn flush(&mut self) -> Result<(), Error> {
            self.2.pass();
            self.1.change(|seen| seen.append(&mut self.0));
            Ok(())
        }
    }
    let mut scene = Scene::new();
    let open = scene.opener();
    scene.counting("manual", Trigger::MANUAL, open);
    let (seen, gate) = (Arc::new(Watched::<Vec<u64>>::default()), Arc::new(Watched::<bool>::default()));
    gate.open();
    let (shared, at_gate) = (seen.clone(), gate.clone());
    scene.add_output("buffered", move || Ok(Buffered(Vec::new(), shared.clone(), at_gate.clone())));
    let settings = Settings { flush_interval: Duration::from_millis(20), ..Settings::default() };
    let running = scene.start_with(settings);
    let control = running.control();
    for n in 1..=5 {
        running.wait_for(control.trigger(&pattern("source/*"), soon())).unwrap();
        running.until("it was written", |_| running.status("output/test/buffered").points_out == n);
    }
    seen.until("outputs are flushed on the interval without a request", |seen| *seen == [1, 2, 3, 4, 5]);
    gate.change(|open| *open = false);
    let soon = Instant::now() + Duration::from_millis(50);
    let flushed = running.wait_for(control.flush(&Pattern::all(), soon)).unwrap();
    assert_eq!((flushed.done.len(), flushed.late), (0, vec!["output/test/buffered".to_owned()]));
    gate.open();
    for n in 6..=20 {
        running.wait_for(control.trigger(&pattern("source/*"), Instant::now() + OFTEN * 5000)).unwrap();
        let flushed =
            running.wait_for(control.flush(&Pattern::all(), Instant::now() + OFTEN * 5000)).unwrap();
        assert_eq!(flushed.late.len(), 0);
        assert_eq!(seen.change(|seen| seen.last().copied()), Some(n), "what was polled before is flushed");
    }
    running.stop(STOPPING);
}

#[test]
fn sources_that_never_return_delay_no_others_and_are_shown_as_stuck() {
    let mut scene = Scene::new();
    let gate = Arc::new(Watched::<bool>::default());
    let shared = Trigger::every(OFTEN * 10);
    for name in ["stuck1", "stuck2", "stuck3"] {
        let gate = gate.clone();
        scene.source(name, shared, move || {
            let gate = gate.clone();
            Ok(Does(move |_: &Tick, _: &mut Batch| {
                gate.pass();
                Ok(())
            }))
        });
    }
    let open = scene.opener();
    scene.counting("neighbour", shared, open);
    let log = scene.log();
    let running = scene.start(64);
    log.until("the neighbour ticks on", |log| log.last("neighbour") > 20);
    running.until("they are shown as stuck", |control| {
        control.status(&pattern("source/test/stuck?")).iter().all(|s| s.state == Condition::Stuck)
    });
    let stuck = running.status("source/test/stuck1");
    assert!(stuck.reason.starts_with("since 20") && stuck.stuck_since_unix_nano > 0, "{stuck:?}");
    let late = running
        .wait_for(running.control().trigger(&pattern("source/*"), Instant::now() + OFTEN * 100))
        .unwrap();
    assert_eq!((late.late.len(), late.done), (3, vec!["source/test/neighbour".to_owned()]));
    gate.open();
    running.until("they have returned", |control| {
        control.status(&pattern("source/test/stuck?")).iter().all(|s| s.state == Condition::Running)
    });
    gate.change(|open| *open = false);
    running.until("they stick again", |control| {
        control.status(&pattern("source/test/stuck?")).iter().all(|s| s.state == Condition::Stuck)
    });
    let health = running.stop(STOPPING);
    let [_, given, _] = books(&health, "source/test/neighbour");
    assert_eq!(books(&health, "output/test/log"), [0, given, 0]);
    gate.open();
}

#[test]
fn a_transform_that_never_returns_is_shown_as_stuck_and_control_still_answers() {
    let mut scene = Scene::new();
    scene.steady("steady");
    let gate = Arc::new(Watched::<bool>::default());
    let at_gate = gate.clone();
    scene.transform("stuck", move || {
        let gate = at_gate.clone();
        Ok(Does(move |_: &mut Batch| {
            gate.pass();
            Ok(())
        }))
    });
    let log = scene.log();
    let running = scene.start(64);
    let is_stuck = || running.status("transform/test/stuck").state == Condition::Stuck;
    running.until("it is shown as stuck", |_| is_stuck());
    let control = running.control();
    control.pause(&pattern("source/*")).unwrap();
    let late = running.wait_for(control.flush(&Pattern::all(), soon())).unwrap();
    assert_eq!(late.done, ["output/test/log"], "outputs are not concerned");
    running.wait_for(control.replace_plugin("nobody", vec![]));
    gate.open();
    log.until("what waited goes through", |log| log.last("steady") > 50);
    running.stop(STOPPING);
}
