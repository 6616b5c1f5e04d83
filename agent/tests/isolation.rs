//! A failing element harms no other: the pipeline with elements that panic, fail in each way, dawdle or never
//! return. Beside each runs a healthy one, and the books of points (given out = written + lost) close
//! exactly.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod scene;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use scene::{Does, OFTEN, STOPPING, Scene, Watched, assert_each_once, books, declared, find};
use wattrace::pipeline::health::State;
use wattrace::pipeline::status::Condition;
use wattrace_api::{Batch, Error, Tick, Trigger, Value};

#[test]
fn a_source_that_panics_at_every_third_poll_is_reopened_and_its_neighbour_ticks_on() {
    let mut scene = Scene::new();
    let (open, polls, opened) =
        (scene.opener(), Arc::new(Watched::<u64>::default()), Arc::new(AtomicU64::new(0)));
    let (polled, openings) = (polls.clone(), opened.clone());
    scene.source("shaky", Trigger::every(OFTEN), move || {
        openings.fetch_add(1, Relaxed);
        let (id, polled) = (open("shaky"), polled.clone());
        Ok(Does(move |_: &Tick, out: &mut Batch| {
            let n = polled.change(|n| {
                *n += 1;
                *n
            });
            out.push(id, Value::of_steps(n));
            assert!(n % 3 != 0, "the meter bit at poll {n}");
            Ok(())
        }))
    });
    scene.source("hopeless", Trigger::every(OFTEN), || {
        Ok(Does(|_: &Tick, _: &mut Batch| -> Result<(), Error> { panic!("the meter is {}", "on fire") }))
    });
    scene.steady("neighbour");
    let log = scene.log();
    let running = scene.start(256);
    polls.until("it panicked", |&n| n == 3);
    let before = log.change(|log| log.last("neighbour"));
    log.until("the neighbour ticks on", |log| log.last("neighbour") > before + 10);
    polls.until("it went on after three panics", |&n| n > 9);
    let health = running.stop(STOPPING);

    let polls = polls.change(|n| *n);
    assert_eq!(opened.load(Relaxed), polls.div_ceil(3), "each instance lives for three polls");
    assert_eq!(books(&health, "source/test/shaky"), [polls / 3, polls, 0]);
    let hopeless = find(&health, "source/test/hopeless");
    assert_eq!(hopeless.state(), State::Failing("panicked: the meter is on fire".into()));
    assert!(
        hopeless.errors.load(Relaxed) >= 2 && hopeless.errors.load(Relaxed) == hopeless.calls.load(Relaxed)
    );
    let [errors, given, _] = books(&health, "source/test/neighbour");
    assert_eq!((errors, find(&health, "source/test/neighbour").state()), (0, State::Stopped));
    log.change(|log| {
        assert_each_once("points from before a panic count", &log.of("shaky"), polls);
        assert_eq!(log.ends_of("shaky") as u64, polls / 3, "what was open at a panic ends");
        assert_each_once("the neighbour", &log.of("neighbour"), given);
    });
    assert_eq!(books(&health, "output/test/log"), [0, polls + given, 0]);
}

#[test]
fn each_kind_of_error_has_its_consequence_and_no_other() {
    let mut scene = Scene::new();
    type Make = fn(&'static str) -> Error;
    let errors: [(&str, Make); 3] = [("gone", Error::gone), ("retry", Error::retry), ("fatal", Error::fatal)];
    let seen: Vec<_> = errors
        .into_iter()
        .map(|(name, error)| {
            // Times opened, times polled.
            let seen = Arc::new(Watched::<[u64; 2]>::default());
            let (open, shared) = (scene.opener(), seen.clone());
            scene.source(name, Trigger::every(OFTEN), move || {
                shared.change(|[opened, _]| *opened += 1);
                let (id, seen) = (open(name), shared.clone());
                Ok(Does(move |_: &Tick, out: &mut Batch| {
                    let n = seen.change(|[_, polls]| {
                        *polls += 1;
                        *polls
                    });
                    out.push(id, Value::of_steps(n));
                    if n == 2 { Err(error("the cable is loose")) } else { Ok(()) }
                }))
            });
            seen
        })
        .collect();
    scene.steady("neighbour");
    let log = scene.log();
    let running = scene.start(256);
    for (seen, (name, _)) in seen.iter().zip(&errors).skip(1) {
        seen.until(&format!("{name} is polled again"), |[_, polls]| *polls >= 4);
        assert_eq!(running.health(&format!("source/test/{name}")).state(), State::Running);
    }
    let before = log.change(|log| log.last("neighbour"));
    log.until("the neighbour ticks on", |log| log.last("neighbour") > before + 10);
    let gone = State::Gone("the cable is loose".into());
    assert_eq!(running.health("source/test/gone").state(), gone);
    let health = running.stop(STOPPING);

    assert_eq!(find(&health, "source/test/gone").state(), gone, "it stays said after the end");
    assert_eq!(seen[0].change(|s| *s), [1, 2], "what is gone is not polled again");
    assert_eq!(seen[1].change(|s| s[0]), 1, "what is to be tried again stays open");
    assert_eq!(seen[2].change(|s| s[0]), 2, "what failed fatally is reopened");
    let given: u64 = ["gone", "retry", "fatal"]
        .map(|name| {
            let [errors, points, _] = books(&health, &format!("source/test/{name}"));
            assert_eq!(errors, 1, "{name}");
            log.change(|log| {
                assert_each_once(name, &log.of(name), points);
                assert_eq!(log.ends_of(name), usize::from(name != "retry"), "{name}");
            });
            points
        })
        .iter()
        .sum();
    let [_, neighbours, _] = books(&health, "source/test/neighbour");
    assert_eq!(books(&health, "output/test/log"), [0, given + neighbours, 0]);
}

#[test]
fn a_slow_output_loses_old_points_to_the_count_but_no_last_one_and_its_neighbour_loses_nothing() {
    let mut scene = Scene::new();
    scene.steady("steady");
    let open = scene.opener();
    scene.source("mayflies", Trigger::every(OFTEN), move || {
        let (open, mut n) = (open.clone(), 0);
        Ok(Does(move |_: &Tick, out: &mut Batch| {
            n += 1;
            let mayfly = open("mayfly");
            out.push(mayfly, Value::of_steps(n));
            out.end(mayfly);
            Ok(())
        }))
    });
    let gate = Arc::new(Watched::<bool>::default());
    let at_gate = gate.clone();
    let (slow, _) = scene.output("slow", move |_| {
        at_gate.pass();
        Ok(())
    });
    let log = scene.log();
    let running = scene.start(64);
    log.until("many batches came by", |log| log.points.len() > 600);
    gate.open();
    let health = running.stop(STOPPING);

    let [[_, steady, _], [_, mayflies, _]] =
        ["source/test/steady", "source/test/mayflies"].map(|name| books(&health, name));
    let [_, written, lost] = books(&health, "output/test/slow");
    slow.change(|slow| {
        assert_each_once("last points are never dropped", &slow.of("mayfly"), mayflies);
        assert_eq!(slow.ends_of("mayfly") as u64, mayflies);
        assert_eq!(slow.last("steady"), steady, "the newest point is there");
        assert_eq!(slow.points.len() as u64, written);
        assert_eq!(slow.of("steady").len() as u64 + lost, steady, "each dropped point is counted");
    });
    assert!(lost > 100, "{lost}");
    assert_eq!(written + lost, steady + mayflies);
    let [_, written, lost] = books(&health, "output/test/log");
    assert_eq!((written, lost), (steady + mayflies, 0));
}

#[test]
fn an_output_that_fails_every_other_time_gets_each_batch_once_and_in_order() {
    const BATCHES: u64 = 5;
    for (error, openings) in
        [(Error::retry as fn(&'static str) -> Error, 1), (Error::fatal as fn(_) -> _, BATCHES + 1)]
    {
        let mut scene = Scene::new();
        let open = scene.opener();
        scene.source("brief", Trigger::every(OFTEN), move || {
            let (id, mut n) = (open("brief"), 0);
            Ok(Does(move |_: &Tick, out: &mut Batch| {
                if n < BATCHES {
                    n += 1;
                    out.push(id, Value::of_steps(n));
                }
                Ok(())
            }))
        });
        let (shaky, opened) = scene.output("shaky", move |call| match call % 2 {
            1 => Err(error("the disk hiccupped")),
            _ => Ok(()),
        });
        let log = scene.log();
        let running = scene.start(64);
        log.until("all batches reached the neighbour", |log| log.last("brief") == BATCHES);
        shaky.until("all batches are written", |log| log.last("brief") == BATCHES);
        let health = running.stop(STOPPING);
        assert_each_once("the batches", &shaky.change(|log| log.of("brief")), BATCHES);
        assert_eq!(books(&health, "output/test/shaky"), [BATCHES, BATCHES, 0]);
        assert_eq!(find(&health, "output/test/shaky").state(), State::Stopped);
        assert_eq!(opened.load(Relaxed), openings);
        assert_eq!(books(&health, "output/test/log"), [0, BATCHES, 0]);
    }
}

#[test]
fn a_transform_that_panics_once_is_passed_by_and_comes_back() {
    let mut scene = Scene::new();
    scene.steady("steady");
    let (open, calls, opened) = (scene.opener(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let openings = opened.clone();
    scene.transform("shaky", move || {
        openings.fetch_add(1, Relaxed);
        let (id, calls) = (open("sum"), calls.clone());
        Ok(Does(move |batch: &mut Batch| {
            let n = calls.fetch_add(1, Relaxed) + 1;
            assert!(n != 3, "division by zero");
            batch.push(id, Value::of_steps(n));
            Ok(())
        }))
    });
    let open = scene.opener();
    scene.transform("after", move || {
        let (id, mut n) = (open("after"), 0);
        Ok(Does(move |batch: &mut Batch| {
            // At the end comes what the one before held back: nothing.
            if !batch.is_empty() {
                n += 1;
                batch.push(id, Value::of_steps(n));
            }
            Ok(())
        }))
    });
    let log = scene.log();
    // A panic whose backtrace is asked for takes long, and the batches that wait come at once.
    let running = scene.start(8192);
    log.until("the transform came back", |log| log.last("sum") > 5);
    assert_eq!(running.health("transform/test/shaky").state(), State::Running);
    let health = running.stop(STOPPING);

    let [_, steady, _] = books(&health, "source/test/steady");
    assert_eq!((books(&health, "transform/test/shaky")[0], opened.load(Relaxed)), (1, 2));
    log.change(|log| {
        assert_each_once("batches went on as they stood", &log.of("steady"), steady);
        assert_each_once("its neighbour saw each", &log.of("after"), steady);
        let sums = log.of("sum");
        assert_eq!(sums[..3], [1, 2, 4]);
        assert_eq!(log.ends_of("sum"), 1, "what it had opened ended with it");
        assert!(sums.len() < log.of("after").len() - 50, "batches passed it by while it waited");
    });
}

#[test]
fn a_source_that_never_returns_delays_neither_its_neighbours_last_poll_nor_the_end() {
    const LAST: u64 = 1_000_000;
    let mut scene = Scene::new();
    let gate = Arc::new(Watched::<bool>::default());
    let (at_gate, reached) = (gate.clone(), Arc::new(Watched::<bool>::default()));
    let arrived = reached.clone();
    // First in the order in which sources are asked for their last poll.
    let interval = Duration::from_millis(10);
    scene.source("stuck", Trigger::every(interval), move || {
        let (gate, arrived) = (at_gate.clone(), arrived.clone());
        Ok(Does(move |_: &Tick, _: &mut Batch| {
            arrived.open();
            gate.pass();
            Ok(())
        }))
    });
    let open = scene.opener();
    scene.source("neighbour", Trigger { interval, offset: interval / 2 }, move || {
        let id = open("neighbour");
        Ok(Does(move |tick: &Tick, out: &mut Batch| {
            if tick.last {
                // Not a wait for an event: a last poll that takes its time.
                std::thread::sleep(Duration::from_millis(50));
            }
            out.push(id, Value::of_steps(if tick.last { LAST } else { 1 }));
            Ok(())
        }))
    });
    let log = scene.log();
    let running = scene.start(256);
    reached.pass();
    let before = log.change(|log| log.points.len());
    log.until("the neighbour ticks on", |log| log.points.len() > before + 10);
    let health = running.stop(STOPPING);
    assert_eq!(log.change(|log| log.last("neighbour")), LAST);
    assert_eq!(find(&health, "source/test/neighbour").state(), State::Stopped);
    let stuck = find(&health, "source/test/stuck").state().to_string();
    assert!(stuck.contains("does not return from its poll"), "{stuck}");
    gate.open();
    let [_, given, _] = books(&health, "source/test/neighbour");
    assert_eq!(books(&health, "output/test/log"), [0, given, 0]);
}

#[test]
fn an_output_that_never_returns_is_abandoned_and_all_it_had_is_counted() {
    let mut scene = Scene::new();
    scene.steady("steady");
    let gate = Arc::new(Watched::<bool>::default());
    let at_gate = gate.clone();
    scene.output("stuck", move |_| {
        at_gate.pass();
        Ok(())
    });
    let log = scene.log();
    let running = scene.start(64);
    log.until("more came by than a queue holds", |log| log.points.len() > 300);
    let health = running.stop(Duration::from_secs(1));
    let stuck = find(&health, "output/test/stuck");
    let lost = stuck.lost.load(Relaxed);
    let [_, given, _] = books(&health, "source/test/steady");
    assert_eq!(lost, given, "dropped while it stood, under way into it, and queued behind that");
    assert_eq!(books(&health, "output/test/log"), [0, given, 0]);
    assert!(stuck.state().to_string().contains("does not return from its last write"), "{}", stuck.state());
    gate.open();
}

#[test]
fn a_transform_that_never_returns_does_not_keep_the_agent_from_its_end() {
    let mut scene = Scene::new();
    scene.steady("steady");
    let gate = Arc::new(Watched::<bool>::default());
    let (at_gate, reached) = (gate.clone(), Arc::new(Watched::<bool>::default()));
    let tell = reached.clone();
    scene.transform("stuck", move || {
        let (gate, tell) = (at_gate.clone(), tell.clone());
        Ok(Does(move |_: &mut Batch| {
            tell.open();
            gate.pass();
            Ok(())
        }))
    });
    scene.log();
    let running = scene.start(64);
    reached.pass();
    running.stop(Duration::from_secs(2));
    gate.open();
}

#[test]
fn elements_that_never_open_hold_up_neither_the_start_nor_the_end_and_join_when_they_do() {
    for opens in [true, false] {
        let mut scene = Scene::new();
        let gate = Arc::new(Watched::<bool>::default());
        let (open, at_gate) = (scene.opener(), gate.clone());
        scene.source("stuck", Trigger::every(OFTEN), move || {
            at_gate.pass();
            let id = open("source");
            Ok(Does(move |_: &Tick, out: &mut Batch| {
                out.push(id, Value::of_steps(1));
                Ok(())
            }))
        });
        let (open, at_gate) = (scene.opener(), gate.clone());
        scene.transform("stuck", move || {
            at_gate.pass();
            let id = open("transform");
            Ok(Does(move |batch: &mut Batch| {
                batch.push(id, Value::of_steps(1));
                Ok(())
            }))
        });
        let at_gate = gate.clone();
        let open_output = move || {
            at_gate.pass();
            Ok(Does(|_: &Batch| Ok(())))
        };
        scene.add_output("stuck", open_output.clone());
        scene.steady("neighbour");
        let log = scene.log();
        let began = Instant::now();
        let running = scene.start(64);
        let started = began.elapsed();
        log.until("the neighbour ticks", |log| log.last("neighbour") > 10);
        assert_eq!(log.change(|log| log.last("transform")), 0, "batches pass the transform by");

        let open_late = open_output.clone();
        let late = declared(&running.control(), "late", |setup| setup.output("late", open_late));
        running.wait_for(running.control().replace_plugin("late", late));
        let stuck = ["source/test/stuck", "transform/test/stuck", "output/test/stuck"];
        for name in [stuck[0], stuck[1], stuck[2], "output/late/late"] {
            let state = running.status(name).state;
            assert!(matches!(state, Condition::Opening | Condition::Stuck), "{name}: {state:?}");
        }
        // Outputs may take their time.
        for name in &stuck[..2] {
            let is_stuck = || running.status(name).state == Condition::Stuck;
            running.until(&format!("{name} is shown as stuck"), |_| is_stuck());
            assert!(running.status(name).reason.starts_with("opening since 20"), "{name}");
        }
        if opens {
            gate.open();
            log.until("the source joins", |log| log.last("source") > 0);
            log.until("the transform joins", |log| log.last("transform") > 0);
            for name in ["source/test/stuck", "transform/test/stuck", "output/test/stuck"] {
                running.until(name, |_| running.status(name).state == Condition::Running);
            }
        }
        let health = running.stop(STOPPING);
        let [_, given, _] = books(&health, "source/test/neighbour");
        log.change(|log| assert_each_once("the neighbour", &log.of("neighbour"), given));
        if !opens {
            for name in stuck {
                let state = find(&health, name).state().to_string();
                let passed_by = name.starts_with("transform");
                assert!(passed_by || state.contains("does not return from its opening"), "{name}: {state}");
            }
            assert_eq!(books(&health, "output/test/stuck"), [1, 0, given], "what it missed is counted");
        }
        gate.open();
        assert!(started < Duration::from_secs(4), "the start took {started:?}");
    }
}

#[cfg(feature = "filter")]
#[test]
fn what_a_filter_leaves_out_is_no_loss_but_counted() {
    use wattrace_api::Plugin;
    use wattrace_filter::Filter;

    let mut scene = Scene::new();
    scene.steady("kept");
    scene.steady("dropped");
    let rule = serde_json::json!({ "action": "drop", "select": { "resource": "package/dropped" } });
    let config = serde_json::from_value(serde_json::json!({ "rules": [rule] })).unwrap();
    scene.plugin("test", |setup| Filter::start(config, setup).unwrap());
    let log = scene.log();
    let running = scene.start(256);
    log.until("some were kept", |log| log.last("kept") > 10);
    running.until("it is counted", |_| running.status("transform/test/rules").left_out > 10);
    let health = running.stop(STOPPING);

    let given = |name: &str| books(&health, name)[1];
    let filter = find(&health, "transform/test/rules");
    assert_eq!(filter.left_out.load(Relaxed), given("source/test/dropped"));
    assert_eq!(books(&health, "transform/test/rules"), [0, given("source/test/kept"), 0]);
    assert_eq!(filter.points_in.load(Relaxed), given("source/test/kept") + given("source/test/dropped"));
    log.change(|log| assert_each_once("what is kept", &log.of("kept"), given("source/test/kept")));
}
