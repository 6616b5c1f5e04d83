//! Outputs of a running pipeline: async ones, queue policies, and many sources beside outputs that sleep and
//! fail.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod scene;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use scene::{Does, STOPPING, Scene, Watched, assert_each_once, books, find, pattern, soon};
use wattrace::config::{OutputSettings, QueuePolicy, Settings};
use wattrace::pattern::Pattern;
use wattrace::pipeline::health::State;
use wattrace::pipeline::status::ElementStatus;
use wattrace_api::{Batch, ElementKind, Error, Tick, Trigger, Value};

#[test]
fn an_output_that_waits_for_its_back_end_delays_no_neighbour_and_loses_nothing() {
    let mut scene = Scene::new();
    let open = scene.opener();
    scene.counting("manual", Trigger::MANUAL, open);
    let seen = Arc::new(Watched::<Vec<u64>>::default());
    let (shared, runtime) = (seen.clone(), scene.runtime());
    scene.add_output("slow", move || {
        let (seen, runtime, mut calls) = (shared.clone(), runtime.clone(), 0_u64);
        Ok(Does(move |batch: &Batch| {
            calls += 1;
            // As with an async client library.
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(3)).await });
            if calls.is_multiple_of(5) {
                return Err(Error::retry("the server is busy"));
            }
            let values = batch.segments().flat_map(|s| s.values.iter().map(|v| v.steps()));
            seen.change(|seen| seen.extend(values));
            Ok(())
        }))
    });
    let log = scene.log();
    let running = scene.start(64);
    for _ in 0..12 {
        running.wait_for(running.control().trigger(&pattern("source/*"), soon())).unwrap();
    }
    log.until("the neighbour has all", |log| log.last("manual") == 12);
    let health = running.stop(STOPPING);
    assert_eq!(seen.change(std::mem::take), (1..=13).collect::<Vec<_>>(), "and the last poll's");
    assert_eq!(books(&health, "output/test/slow"), [3, 13, 0]);
}

#[test]
fn each_output_has_its_policy_and_block_loses_nothing_but_ticks() {
    let mut scene = Scene::new();
    scene.steady("steady");
    let gates: [Arc<Watched<bool>>; 2] = Default::default();
    let [blocked, newest] = ["blocked", "newest"].map(|name| {
        let gate = gates[usize::from(name == "newest")].clone();
        scene.output(name, move |_| {
            gate.pass();
            Ok(())
        })
    });
    let says = |policy, queue: usize| OutputSettings {
        queue: queue.try_into().ok(),
        policy: Some(policy),
        ..OutputSettings::default()
    };
    let outputs = vec![
        (pattern("output/test/block*"), says(QueuePolicy::Block, 4)),
        (pattern("output/test/newest"), says(QueuePolicy::DropNewest, 4)),
    ];
    let running = scene.start_with(Settings { outputs, ..Settings::default() });
    gates[1].open();
    newest.0.until("it took what came before the others' supply ran dry", |log| log.last("steady") >= 4);
    running.until("ticks are missed and counted", |_| {
        // The channel to the transforms is full as well by then.
        let calls = running.status("source/test/steady").calls;
        std::thread::sleep(Duration::from_millis(20));
        calls > 4 && running.status("source/test/steady").calls == calls
    });
    assert_eq!(running.status("output/test/blocked").queue.unwrap().depth, 4);
    gates[0].open();
    blocked.0.until("it goes on", |log| log.last("steady") > 200);
    assert!(running.status("source/test/steady").ticks.unwrap().missed >= 10);
    let health = running.stop(STOPPING);
    let [_, given, _] = books(&health, "source/test/steady");
    blocked.0.change(|log| assert_each_once("all that was measured", &log.of("steady"), given));
    let [_, written, lost] = books(&health, "output/test/newest");
    assert_eq!(written + lost, given);
}

#[test]
fn at_the_end_a_blocked_output_gets_what_is_under_way_and_never_keeps_it_from_others() {
    for opens in [true, false] {
        let mut scene = Scene::new();
        scene.steady("steady");
        let gate = Arc::new(Watched::<bool>::default());
        let at_gate = gate.clone();
        let (blocked, _) = scene.output("blocked", move |_| {
            at_gate.pass();
            Ok(())
        });
        let log = scene.log();
        let says = OutputSettings {
            queue: 1.try_into().ok(),
            policy: Some(QueuePolicy::Block),
            ..OutputSettings::default()
        };
        let outputs = vec![(pattern("output/test/blocked"), says)];
        let running = scene.start_with(Settings { outputs, ..Settings::default() });
        // In hands 1, in the queue 1, in the transforms' hands 1, on the way there 1024, and one that waits.
        running.until("all is full", |_| running.status("source/test/steady").calls == 1028);
        let opening = gate.clone();
        let opened = std::thread::spawn(move || {
            if opens {
                // Longer than sources are waited for.
                std::thread::sleep(Duration::from_millis(1500));
                opening.open();
            }
        });
        let health = running.stop(Duration::from_secs(3));
        let [_, given, _] = books(&health, "source/test/steady");
        assert_eq!(find(&health, "source/test/steady").state(), State::Stopped);
        log.change(|log| assert_each_once("the neighbour", &log.of("steady"), given));
        if opens {
            blocked.change(|log| assert_each_once("what was under way", &log.of("steady"), given));
        } else {
            assert_eq!(books(&health, "output/test/blocked"), [1, 0, given], "and that was counted");
        }
        opened.join().unwrap();
        gate.open();
    }
}

/// Adds 200 sources with alternating intervals in milliseconds.
fn add_two_hundred(scene: &mut Scene, milliseconds: [u64; 10]) {
    for n in 0..200 {
        let (open, interval) = (scene.opener(), Duration::from_millis(milliseconds[n % 10]));
        scene.source(&format!("s{n}"), Trigger::every(interval), move || {
            let (id, mut n) = (open("s"), 0);
            Ok(Does(move |_: &Tick, out: &mut Batch| {
                n += 1;
                out.push(id, Value::of_steps(n));
                Ok(())
            }))
        });
    }
}

#[test]
fn no_poll_waits_for_an_output_that_stands_still_or_fails() {
    const ROUNDS: u64 = 20;
    let mut scene = Scene::new();
    // Nobody but this test makes them tick.
    add_two_hundred(&mut scene, [0; 10]);
    let gate = Arc::new(Watched::<bool>::default());
    let at_gate = gate.clone();
    scene.output("stands", move |_| {
        at_gate.pass();
        Ok(())
    });
    scene.output("fails", |n| if n % 2 == 1 { Err(Error::retry("every other time")) } else { Ok(()) });
    let log = scene.log();
    // Far less than comes, for all but the log.
    let roomy = OutputSettings { queue: 10_000.try_into().ok(), ..OutputSettings::default() };
    let running = scene.start_with(Settings {
        queue: 8.try_into().unwrap(),
        outputs: vec![(pattern("output/test/log"), roomy)],
        ..Settings::default()
    });
    for round in 1..=ROUNDS {
        let polled = running.wait_for(running.control().trigger(&pattern("source/*"), soon())).unwrap();
        assert_eq!((polled.done.len(), polled.late), (200, vec![]), "round {round}");
    }
    log.until("all has come", |log| log.points.len() as u64 == 200 * ROUNDS);
    let stands = running.status("output/test/stands");
    assert_eq!(stands.points_out, 0);
    assert!(stands.queue.unwrap().depth <= 8 && stands.lost >= 200 * ROUNDS - 9, "{stands:?}");
    gate.open();
    let health = running.stop(STOPPING);
    // And the last poll's.
    let given = 200 * (ROUNDS + 1);
    for name in ["stands", "fails", "log"] {
        let [_, written, lost] = books(&health, &format!("output/test/{name}"));
        assert_eq!((written + lost, name == "log" && lost > 0), (given, false), "{name}");
    }
}

#[test]
fn two_hundred_sources_miss_no_tick_for_outputs_that_sleep_and_fail_and_each_drop_is_counted() {
    const MILLISECONDS: [u64; 10] = [10, 20, 20, 50, 50, 100, 100, 200, 500, 1000];
    let (mut scene, mut twin) = (Scene::new(), Scene::new());
    add_two_hundred(&mut scene, MILLISECONDS);
    add_two_hundred(&mut twin, MILLISECONDS);
    let written = Arc::new(AtomicU64::new(0));
    for scene in [&mut scene, &mut twin] {
        let count = written.clone();
        scene.add_output("writes", move || {
            let count = count.clone();
            Ok(Does(move |batch: &Batch| {
                count.fetch_add(batch.len() as u64, Relaxed);
                Ok(())
            }))
        });
    }
    scene.add_output("sleeps", || {
        Ok(Does(|_: &Batch| {
            // The subject of the test.
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        }))
    });
    scene.output("fails", |n| if n % 2 == 1 { Err(Error::retry("every other time")) } else { Ok(()) });
    // Room for all of them ticking at once, twice.
    let (twin, running) = (twin.start(400), scene.start(400));
    std::thread::sleep(Duration::from_secs(3));
    let status = running.control().status(&Pattern::all());
    let ticks = |status: &[ElementStatus]| {
        let ticks = status.iter().filter_map(|s| s.ticks);
        ticks.fold((0, 0), |(fired, missed), t| (fired + t.ticks, missed + t.missed))
    };
    // The twin is on the same machine at the same time: what it misses as well, no output is to blame for.
    let (fired, missed) = ticks(&status);
    let (_, by_the_twin) = ticks(&twin.control().status(&Pattern::all()));
    assert!(
        fired > 1_000 && missed <= 2 * by_the_twin + fired / 50,
        "{missed} missed, {by_the_twin} by the twin, {fired} took place"
    );
    for s in status.iter().filter(|s| s.queue.is_some()) {
        let queue = s.queue.unwrap();
        assert!(queue.depth <= queue.capacity && queue.points <= queue.capacity_points, "{s:?}");
    }
    let control = running.control();
    let health = running.stop(STOPPING);
    let twins = books(&twin.stop(STOPPING), "output/test/writes")[1];
    let given: u64 =
        health.iter().filter(|h| h.kind == ElementKind::Source).map(|h| h.points_out.load(Relaxed)).sum();
    for s in control.status(&pattern("output/*")) {
        assert_eq!((s.points_in, s.points_out + s.lost), (given, given), "{s:?}");
        assert_eq!(s.losses.iter().map(|l| l.points).sum::<u64>(), s.lost);
        match s.name.as_str() {
            "output/test/writes" => assert_eq!(written.load(Relaxed), s.points_out + twins),
            _ => assert!(s.lost > 0, "{s:?}"),
        }
    }
}
