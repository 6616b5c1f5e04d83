//! Elements of a running pipeline: those that come, go, are replaced, are found again, produce by themselves,
//! or run in real time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod scene;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use scene::{Does, OFTEN, STOPPING, Scene, Watched, assert_each_once, books, counting, find, pattern, soon};
use wattrace::pipeline::health::State;
use wattrace::pipeline::pattern::Pattern;
use wattrace::pipeline::settings::{QueuePolicy, Settings};
use wattrace::pipeline::status::Condition;
use wattrace_api::{Added, Batch, ElementKind, Error, Tick, Trigger, Value};

#[test]
fn elements_come_and_go_at_runtime_and_leave_nothing_behind() {
    let mut scene = Scene::new();
    scene.steady("steady");
    let (elements, open) = (scene.setup.elements(), scene.opener());
    let log = scene.log();
    let registry = scene.setup.registry();
    let running = scene.start(64);
    log.until("it runs", |log| log.last("steady") > 3);
    let before = registry.series().len();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let threads_before = threads();
    for round in 1..=3 {
        // From a thread that has nothing to do with the runtime: a device watcher's.
        let (handle, opener) = (elements.clone(), open.clone());
        std::thread::spawn(move || handle.add(counting("device", Trigger::every(OFTEN), opener)))
            .join()
            .unwrap();
        log.until("the device is measured", |log| log.last("device") > 10);
        elements.add(counting("device", Trigger::every(OFTEN), open.clone()));
        elements.remove(ElementKind::Source, "device");
        running.until("it is gone", |control| control.status(&Pattern::all()).len() == 2);
        log.until("its series ended", |log| log.ends_of("device") == round);
        log.change(|log| log.points.retain(|(label, _)| label != "device"));
    }
    running.until("its ids are free", |_| registry.series().len() == before);
    let (held, open_transform) = (Arc::new(AtomicU64::new(0)), open.clone());
    let seen = held.clone();
    elements.add(Added::transform("late", move || {
        let (id, seen) = (open_transform("late"), seen.clone());
        Ok(Does(move |batch: &mut Batch| {
            seen.fetch_add(1, Relaxed);
            batch.push(id, Value::of_steps(1));
            Ok(())
        }))
    }));
    elements.add(Added::output("late", || Ok(Does(|_: &Batch| Ok(())))));
    log.until("the transform sees points", |log| log.last("late") == 1);
    running.until("the output too", |_| {
        let late = running.control().status(&pattern("output/test/late"));
        late.first().is_some_and(|late| late.points_out > 0)
    });
    elements.remove(ElementKind::Transform, "late");
    elements.remove(ElementKind::Output, "late");
    running.until("both are gone", |control| control.status(&Pattern::all()).len() == 2);
    log.until("the transform's series ended with it", |log| log.ends_of("late") == 1);
    // The blocking pool's threads on which elements opened stay for a while; outputs' do not.
    running.until("threads have ended", |_| threads() <= threads_before + 2);
    let last = held.load(Relaxed);
    log.until("points go on", {
        let at = log.change(|log| log.last("steady"));
        move |log| log.last("steady") > at + 20
    });
    assert_eq!(held.load(Relaxed), last, "it sees nothing any more");
    let health = running.stop(STOPPING);
    let [_, given, _] = books(&health, "source/test/steady");
    log.change(|log| assert_each_once("the neighbour", &log.of("steady"), given));
}

#[test]
fn a_plugin_is_replaced_in_its_place_and_the_others_go_on() {
    let mut scene = Scene::new();
    let open = scene.opener();
    // Each adds its digit to a number that starts at zero: the order shows.
    let digit = |plugin: &'static str, digit: u64| {
        (
            plugin,
            Added::transform("digit", move || {
                Ok(Does(move |batch: &mut Batch| {
                    for segment in batch.segments_mut() {
                        let values = segment.values.iter_mut();
                        values.for_each(|v| *v = Value::of_steps(v.steps() * 10 + digit));
                    }
                    Ok(())
                }))
            }),
        )
    };
    let zero = {
        let open = open.clone();
        move |name: &'static str| {
            let open = open.clone();
            Added::source(name, Trigger::every(OFTEN), move || {
                let id = open(name);
                Ok(Does(move |_: &Tick, out: &mut Batch| {
                    out.push(id, Value::of_steps(0));
                    Ok(())
                }))
            })
        }
    };
    for (plugin, added) in [digit("a", 1), digit("b", 2), digit("c", 3)] {
        scene.setup.enter(plugin);
        scene.setup.add(added);
    }
    scene.setup.enter("meter");
    scene.setup.add(zero("old"));
    scene.setup.enter("test");
    let log = scene.log();
    let order = vec!["a", "b", "new", "c"];
    let running = scene.start_with(Settings { order, ..Settings::default() });
    log.until("in order", |log| log.last("old") == 123);
    let control = running.control();
    let seen_by_c = || running.status("transform/c/digit").calls;
    let before = seen_by_c();
    running.wait_for(control.replace_plugin("b", vec![digit("b", 7)]));
    log.until("replaced in its place", |log| log.last("old") == 173);
    running.wait_for(control.replace_plugin("new", vec![digit("new", 9)]));
    log.until("one that joins stands where its plugin stands", |log| log.last("old") == 1793);
    running.wait_for(control.replace_plugin("a", vec![]));
    log.until("one that leaves is passed by", |log| log.last("old") == 793);
    running.wait_for(control.replace_plugin("meter", vec![("meter", zero("new"))]));
    log.until("the new source is there", |log| log.last("new") == 793);
    assert_eq!(log.change(|log| log.ends_of("old")), 1, "the old one's series ended");
    assert!(seen_by_c() > before, "the others went on with their books");
    running.stop(STOPPING);
}

#[test]
fn what_is_gone_is_looked_for_again_and_found_when_it_is_back() {
    let mut scene = Scene::new();
    let plugged = Arc::new(Watched::<bool>::default());
    let (open, there) = (scene.opener(), plugged.clone());
    scene.setup.source("usb", Trigger::every(OFTEN), move || {
        let is_there = there.clone();
        if !is_there.change(|there| *there) {
            return Err(Error::gone("no device"));
        }
        let (id, mut n) = (open("usb"), 0);
        Ok(Does(move |_: &Tick, out: &mut Batch| {
            n += 1;
            if !is_there.change(|there| *there) {
                return Err(Error::gone("unplugged"));
            }
            out.push(id, Value::of_steps(n));
            Ok(())
        }))
    });
    let log = scene.log();
    let running = scene.start_with(Settings { rediscover: Duration::from_millis(5), ..Settings::default() });
    for round in 1..=3 {
        running.until("it is told as gone", |_| running.status("source/test/usb").state == Condition::Gone);
        plugged.open();
        log.until("it is measured", |log| log.last("usb") > 5);
        assert_eq!(running.status("source/test/usb").state, Condition::Running);
        plugged.change(|there| *there = false);
        log.until("its series ends with it", |log| log.ends_of("usb") == round);
        log.change(|log| log.points.clear());
    }
    running.until("it was looked for in vain", |_| running.status("source/test/usb").reason == "no device");
    let status = running.status("source/test/usb");
    assert_eq!(
        (status.reason.as_str(), status.errors < 20),
        ("no device", true),
        "looking is no error: {status:?}"
    );
    running.stop(STOPPING);
}

#[test]
fn an_autonomous_source_produces_restarts_and_ends_and_leaves_nothing() {
    let mut scene = Scene::new();
    let (open, starts) = (scene.opener(), Arc::new(AtomicU64::new(0)));
    let begun = starts.clone();
    scene.setup.autonomous("events", move |feed| {
        let (open, start) = (open.clone(), begun.fetch_add(1, Relaxed));
        async move {
            let id = open("events");
            let send = async |value| {
                let mut batch = feed.batch();
                batch.push(id, Value::of_steps(value));
                feed.send(batch).await;
            };
            send(start * 10 + 1).await;
            match start {
                0 => return Err(Error::retry("the connection broke")),
                1 => panic!("off by one"),
                _ => {}
            }
            feed.stopping().await;
            send(99).await;
            Ok(())
        }
    });
    let open = scene.opener();
    let (gate, at_gate) = (Arc::new(Watched::<bool>::default()), Arc::new(Watched::<bool>::default()));
    let (pass, reached) = (gate.clone(), at_gate.clone());
    scene.setup.autonomous("brief", move |feed| {
        let id = open("brief");
        async move {
            let mut batch = feed.batch();
            batch.push(id, Value::of_steps(1));
            feed.send(batch).await;
            Ok(())
        }
    });
    // One that blocks the thread it is polled on, which is its own.
    scene.setup.autonomous("blocks", move |_| {
        let (pass, reached) = (pass.clone(), reached.clone());
        async move {
            reached.open();
            pass.pass();
            Ok(())
        }
    });
    scene.steady("neighbour");
    let log = scene.log();
    let running = scene.start(64);
    at_gate.pass();
    log.until("it was set going three times", |log| log.last("events") == 21);
    log.until("each start had series of its own, which ended", |log| log.ends_of("events") == 2);
    let events = running.status("source/test/events");
    assert_eq!(
        (events.state, events.errors, events.last_error.as_str()),
        (Condition::Running, 2, "panicked: off by one")
    );
    assert!(events.ticks.is_none());
    log.until("what comes to its own end leaves no series", |log| log.ends_of("brief") == 1);
    running.until("nor an entry", |control| {
        control.status(&Pattern::all()).iter().all(|s| s.name != "source/test/brief")
    });
    running.until("the one that blocks is told", |_| {
        running.status("source/test/blocks").state == Condition::Stuck
    });
    let mark = log.change(|log| log.last("neighbour"));
    log.until("the neighbour ticks on", |log| log.last("neighbour") > mark + 20);
    let health = running.stop(STOPPING);
    assert_eq!(log.change(|log| log.last("events")), 99, "told to stop, it sent what was left");
    assert_eq!(find(&health, "source/test/events").state(), State::Stopped);
    gate.open();
}

#[test]
fn a_source_of_a_millisecond_keeps_its_ticks_on_a_thread_of_its_own_with_or_without_permission() {
    for realtime in [false, true] {
        let mut scene = Scene::new();
        let (names, open) = (Arc::new(Watched::<Vec<String>>::default()), scene.opener());
        let seen = names.clone();
        scene.setup.source("fast", Trigger::every(OFTEN), move || {
            let (id, seen, mut n) = (open("fast"), seen.clone(), 0);
            Ok(Does(move |_: &Tick, out: &mut Batch| {
                n += 1;
                if n == 1 {
                    let name = std::thread::current().name().unwrap_or_default().to_owned();
                    seen.change(|names| names.push(name));
                }
                out.push(id, Value::of_steps(n));
                Ok(())
            }))
        });
        scene.steady("neighbour");
        let log = scene.log();
        let running = scene.start_with(Settings { realtime, ..Settings::default() });
        log.until("both tick", |log| log.last("fast") > 50 && log.last("neighbour") > 50);
        assert_eq!(names.change(std::mem::take), ["source/test/fast"]);
        running.control().pause(&pattern("source/test/fast")).unwrap();
        running.control().resume(&pattern("source/test/fast")).unwrap();
        let mark = log.change(|log| log.last("fast"));
        log.until("it obeys like any other", |log| log.last("fast") > mark + 10);
        let health = running.stop(STOPPING);
        let [_, given, _] = books(&health, "source/test/fast");
        log.change(|log| assert_each_once("its points", &log.of("fast"), given));
    }
}

#[test]
fn a_source_that_is_told_to_tick_fast_moves_to_a_thread_of_its_own_and_loses_nothing() {
    let mut scene = Scene::new();
    let (threads, open) = (Arc::new(Watched::<Vec<String>>::default()), scene.opener());
    let (seen, opened) = (threads.clone(), Arc::new(AtomicU64::new(0)));
    let openings = opened.clone();
    scene.setup.source("slow", Trigger::every(OFTEN * 20), move || {
        openings.fetch_add(1, Relaxed);
        let (id, seen, mut n) = (open("slow"), seen.clone(), 0);
        Ok(Does(move |_: &Tick, out: &mut Batch| {
            n += 1;
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            seen.change(|names| names.push(name));
            out.push(id, Value::of_steps(n));
            Ok(())
        }))
    });
    let log = scene.log();
    let running = scene.start(256);
    let control = running.control();
    log.until("it ticks", |log| log.last("slow") > 3);
    threads.change(|names| assert!(names.iter().all(|name| name == "tokio-rt-worker"), "{names:?}"));
    control.set_interval(&pattern("source/test/slow"), OFTEN).unwrap();
    threads.until("it has moved", |names| names.ends_with(&["source/test/slow".into()]));
    let mark = log.change(|log| log.last("slow"));
    log.until("it ticks fast", |log| log.last("slow") > mark + 50);
    assert_eq!(running.wait_for(control.trigger(&pattern("source/*"), soon())).unwrap().done.len(), 1);
    // Slow again, it stays there.
    control.set_interval(&pattern("source/test/slow"), OFTEN * 20).unwrap();
    let mark = threads.change(|names| names.len());
    threads.until("it ticks on", |names| names.len() > mark + 5);
    let health = running.stop(STOPPING);
    let [errors, given, _] = books(&health, "source/test/slow");
    assert_eq!((errors, opened.load(Relaxed)), (0, 1), "nothing was opened anew");
    log.change(|log| {
        assert_each_once("its points", &log.of("slow"), given);
        assert_eq!(log.ends_of("slow"), 0, "its series go on");
    });
}

#[test]
fn ids_are_reused_however_many_consumers_come_and_go() {
    const ROUNDS: u64 = 500;
    const EACH: u64 = 1000;
    let mut scene = Scene::new();
    let registry = scene.setup.registry();
    let (open, highest) = (scene.opener(), Arc::new(AtomicU64::new(0)));
    let most = highest.clone();
    scene.setup.autonomous("storm", move |feed| {
        let (open, most) = (open.clone(), most.clone());
        async move {
            for _ in 0..ROUNDS {
                let mut batch = feed.batch();
                for _ in 0..EACH {
                    let id = open("mayfly");
                    most.fetch_max(id.index() as u64, Relaxed);
                    batch.push(id, Value::of_steps(1));
                    batch.end(id);
                }
                feed.send(batch).await;
            }
            Ok(())
        }
    });
    let log = scene.log();
    let settings =
        Settings { queue: 4.try_into().unwrap(), queue_policy: QueuePolicy::Block, ..Settings::default() };
    let running = scene.start_with(settings);
    log.until("all have come and gone", |log| log.ends_of("mayfly") as u64 == ROUNDS * EACH);
    running.until("no series is left", |_| registry.series().is_empty());
    // The channel holds 65 batches of so many points, the queue 4, and a few are in hands.
    assert!(highest.load(Relaxed) < 80 * EACH, "{}", highest.load(Relaxed));
    running.stop(STOPPING);
}
