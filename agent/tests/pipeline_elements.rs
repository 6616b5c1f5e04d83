//! Elements of a running pipeline: those that join, leave, are replaced or found again, that wake up by a
//! descriptor, and fast ones.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

mod scene;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use scene::{
    Does, OFTEN, STOPPING, Scene, Wakes, Watched, assert_each_once, books, counting, declared, pattern, soon,
};
use wattrace::config::{QueuePolicy, Settings};
use wattrace::pattern::Pattern;
use wattrace::pipeline::status::Condition;
use wattrace_api::{Batch, Error, Setup, Tick, TickCause, Trigger, Value};

#[test]
fn elements_come_and_go_at_runtime_and_leave_nothing_behind() {
    let mut scene = Scene::new();
    scene.steady("steady");
    let open = scene.opener();
    let log = scene.log();
    let registry = scene.registry();
    let running = scene.start(64);
    let control = running.control();
    let replace = |plugin, elements| running.wait_for(control.replace_plugin(plugin, elements));
    log.until("it runs", |log| log.last("steady") > 3);
    let before = registry.series().len();
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let threads_before = threads();
    for round in 1..=3 {
        let open = open.clone();
        let device = declared(&control, "gpu", |setup| {
            let twice = open.clone();
            counting(setup, "device", Trigger::every(OFTEN), open);
            // The second one of a name is not added.
            counting(setup, "device", Trigger::every(OFTEN), twice);
        });
        replace("gpu", device);
        log.until("the device is measured", |log| log.last("device") > 10);
        replace("gpu", Vec::new());
        assert_eq!(control.status(&Pattern::all()).len(), 2);
        log.until("its series ended", |log| log.ends_of("device") == round);
        log.change(|log| log.points.retain(|(label, _)| label != "device"));
    }
    running.until("its ids are free", |_| registry.series().len() == before);
    let (held, open_transform) = (Arc::new(AtomicU64::new(0)), open.clone());
    let seen = held.clone();
    let late = declared(&control, "late", |setup| {
        setup.transform("late", move || {
            let (id, seen) = (open_transform("late"), seen.clone());
            Ok(Does(move |batch: &mut Batch| {
                seen.fetch_add(1, Relaxed);
                batch.push(id, Value::of_steps(1));
                Ok(())
            }))
        });
        setup.output("late", || Ok(Does(|_: &Batch| Ok(()))));
    });
    replace("late", late);
    log.until("the transform sees points", |log| log.last("late") == 1);
    running.until("the output too", |_| running.status("output/late/late").points_out > 0);
    replace("late", Vec::new());
    assert_eq!(control.status(&Pattern::all()).len(), 2);
    log.until("the transform's series ended with it", |log| log.ends_of("late") == 1);
    // A thread of the runtime's blocking pool, on which elements were opened, stays for a while; elements' do
    // not.
    running.until("threads have ended", |_| threads() <= threads_before + 2);
    let last = held.load(Relaxed);
    log.until("points go on", {
        let at = log.change(|log| log.last("steady"));
        move |log| log.last("steady") > at + 20
    });
    assert_eq!(held.load(Relaxed), last, "the removed transform sees nothing");
    let health = running.stop(STOPPING);
    let [_, given, _] = books(&health, "source/test/steady");
    log.change(|log| assert_each_once("the neighbour", &log.of("steady"), given));
}

#[test]
fn a_plugin_is_replaced_in_its_place_and_the_others_go_on() {
    let mut scene = Scene::new();
    let open = scene.opener();
    // Each appends its digit to a number that starts at zero, which shows the order.
    let digit = |setup: &mut Setup, digit: u64| {
        setup.transform("digit", move || {
            Ok(Does(move |batch: &mut Batch| {
                for segment in batch.segments_mut() {
                    let values = segment.values.iter_mut();
                    values.for_each(|v| *v = Value::of_steps(v.steps() * 10 + digit));
                }
                Ok(())
            }))
        });
    };
    let zero = |setup: &mut Setup, name: &'static str| {
        let open = open.clone();
        setup.source(name, Trigger::every(OFTEN), move || {
            let id = open(name);
            Ok(Does(move |_: &Tick, out: &mut Batch| {
                out.push(id, Value::of_steps(0));
                Ok(())
            }))
        });
    };
    for (plugin, number) in [("a", 1), ("b", 2), ("c", 3)] {
        scene.plugin(plugin, |setup| digit(setup, number));
    }
    scene.plugin("meter", |setup| zero(setup, "old"));
    let log = scene.log();
    let order = vec!["a", "b", "new", "c"];
    let running = scene.start_with(Settings { order, ..Settings::default() });
    log.until("in order", |log| log.last("old") == 123);
    let control = running.control();
    let replace = |plugin, elements| running.wait_for(control.replace_plugin(plugin, elements));
    let seen_by_c = || running.status("transform/c/digit").calls;
    let before = seen_by_c();
    replace("b", declared(&control, "b", |setup| digit(setup, 7)));
    log.until("replaced in its place", |log| log.last("old") == 173);
    replace("new", declared(&control, "new", |setup| digit(setup, 9)));
    log.until("one that joins takes its plugin's place", |log| log.last("old") == 1793);
    replace("a", Vec::new());
    log.until("batches do not see the one that left", |log| log.last("old") == 793);
    replace("meter", declared(&control, "meter", |setup| zero(setup, "new")));
    log.until("the new source is there", |log| log.last("new") == 793);
    assert_eq!(log.change(|log| log.ends_of("old")), 1, "the old one's series ended");
    assert!(seen_by_c() > before, "the others kept their counters");
    running.stop(STOPPING);
}

#[test]
fn what_is_gone_is_looked_for_again_and_found_when_it_is_back() {
    let mut scene = Scene::new();
    let plugged = Arc::new(Watched::<bool>::default());
    let (open, there) = (scene.opener(), plugged.clone());
    scene.source("usb", Trigger::every(OFTEN), move || {
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
        // Until it has been there, it is absent.
        let expected = if round == 1 { Condition::Absent } else { Condition::Gone };
        running.until("it is shown as gone", |_| running.status("source/test/usb").state == expected);
        plugged.open();
        log.until("it is measured", |log| log.last("usb") > 5);
        assert_eq!(running.status("source/test/usb").state, Condition::Running);
        plugged.change(|there| *there = false);
        log.until("its series ends with it", |log| log.ends_of("usb") == round);
        log.change(|log| log.points.clear());
    }
    let reason = || running.status("source/test/usb").reason;
    running.until("it was looked for without success", |_| reason() == "no device");
    let status = running.status("source/test/usb");
    assert_eq!(
        (status.reason.as_str(), status.errors < 20),
        ("no device", true),
        "looking is no error: {status:?}"
    );
    running.stop(STOPPING);
}

#[test]
fn a_source_is_polled_when_its_wakeup_descriptor_is_readable_and_contained_like_any_other() {
    let mut scene = Scene::new();
    let (open, opened) = (scene.opener(), Arc::new(AtomicU64::new(0)));
    let (theirs, ours) = UnixStream::pair().unwrap();
    let (received, openings) = (Arc::new(theirs), opened.clone());
    scene.source("events", Trigger::MANUAL, move || {
        openings.fetch_add(1, Relaxed);
        let (id, socket) = (open("events"), received.clone());
        Ok(Wakes(received.clone(), move |tick: &Tick, out: &mut Batch| {
            if tick.last {
                out.push(id, Value::of_steps(99));
                return Ok(());
            }
            assert_eq!(tick.cause, TickCause::Wakeup);
            let mut byte = [0];
            (&*socket).read_exact(&mut byte).unwrap();
            match byte[0] {
                7 => panic!("off by one"),
                8 => return Err(Error::retry("the connection broke")),
                n => out.push(id, Value::of_steps(n.into())),
            }
            Ok(())
        }))
    });
    scene.steady("neighbour");
    let log = scene.log();
    let running = scene.start(64);
    let send = |byte| (&ours).write_all(&[byte]).unwrap();
    send(1);
    log.until("it was polled", |log| log.last("events") == 1);
    send(7);
    log.until("a panic is contained, and its series end", |log| log.ends_of("events") == 1);
    send(2);
    log.until("it was reopened and polled", |log| log.last("events") == 2);
    assert_eq!(opened.load(Relaxed), 2);
    send(8);
    send(3);
    log.until("it was tried again", |log| log.last("events") == 3);
    running.control().pause(&pattern("source/test/events")).unwrap();
    send(4);
    let mark = log.change(|log| log.last("neighbour"));
    log.until("the neighbour ticks on", |log| log.last("neighbour") > mark + 20);
    assert_eq!(log.change(|log| log.last("events")), 3, "it is paused");
    running.control().resume(&pattern("source/test/events")).unwrap();
    log.until("it goes on", |log| log.last("events") == 4);
    let events = running.status("source/test/events");
    assert_eq!((events.state, events.errors, events.calls), (Condition::Running, 2, 6), "{events:?}");
    assert_eq!(events.ticks.unwrap().ticks, 0, "wake-ups are no ticks of the timer");
    running.stop(STOPPING);
    assert_eq!(log.change(|log| log.last("events")), 99, "the last poll was sent");
}

#[test]
fn a_fast_source_with_a_wakeup_descriptor_misses_neither_ticks_nor_wakeups() {
    let mut scene = Scene::new();
    let open = scene.opener();
    let (theirs, ours) = UnixStream::pair().unwrap();
    let received = Arc::new(theirs);
    scene.source("both", Trigger::every(OFTEN), move || {
        let (ticks, wakeups, socket) = (open("ticks"), open("wakeups"), received.clone());
        let (mut ticked, mut woken) = (0, 0);
        Ok(Wakes(received.clone(), move |tick: &Tick, out: &mut Batch| {
            match tick.cause {
                TickCause::Timer => ticked += 1 + tick.missed,
                TickCause::Wakeup => {
                    (&*socket).read_exact(&mut [0]).unwrap();
                    woken += 1;
                }
                TickCause::Request => {}
            }
            out.push(ticks, Value::of_steps(ticked));
            out.push(wakeups, Value::of_steps(woken));
            Ok(())
        }))
    });
    let log = scene.log();
    let running = scene.start(256);
    for n in 1..=20 {
        (&ours).write_all(&[0]).unwrap();
        log.until("it woke up", |log| log.last("wakeups") == n);
    }
    log.until("it ticks", |log| log.last("ticks") > 50);
    running.stop(STOPPING);
}

#[test]
fn a_source_of_a_millisecond_keeps_its_ticks_with_or_without_permission_for_real_time() {
    for realtime in [false, true] {
        let mut scene = Scene::new();
        scene.steady("fast");
        scene.steady("neighbour");
        let log = scene.log();
        let running = scene.start_with(Settings { realtime, ..Settings::default() });
        log.until("both tick", |log| log.last("fast") > 50 && log.last("neighbour") > 50);
        running.control().pause(&pattern("source/test/fast")).unwrap();
        running.control().resume(&pattern("source/test/fast")).unwrap();
        let mark = log.change(|log| log.last("fast"));
        log.until("it obeys commands", |log| log.last("fast") > mark + 10);
        let health = running.stop(STOPPING);
        let [_, given, _] = books(&health, "source/test/fast");
        log.change(|log| assert_each_once("its points", &log.of("fast"), given));
    }
}

#[test]
fn a_source_whose_interval_changes_goes_on_without_reopening_and_loses_nothing() {
    let mut scene = Scene::new();
    let (open, opened) = (scene.opener(), Arc::new(AtomicU64::new(0)));
    let openings = opened.clone();
    let polls = Arc::new(Watched::<u64>::default());
    let polled = polls.clone();
    scene.source("slow", Trigger::every(OFTEN * 20), move || {
        openings.fetch_add(1, Relaxed);
        let (id, polled, mut n) = (open("slow"), polled.clone(), 0);
        Ok(Does(move |_: &Tick, out: &mut Batch| {
            n += 1;
            polled.change(|polls| *polls = n);
            out.push(id, Value::of_steps(n));
            Ok(())
        }))
    });
    let log = scene.log();
    let running = scene.start(256);
    let control = running.control();
    log.until("it ticks", |log| log.last("slow") > 3);
    control.set_interval(&pattern("source/test/slow"), OFTEN).unwrap();
    let mark = log.change(|log| log.last("slow"));
    log.until("it ticks fast", |log| log.last("slow") > mark + 50);
    assert_eq!(running.status("source/test/slow").ticks.unwrap().interval_ns, 1_000_000);
    assert_eq!(running.wait_for(control.trigger(&pattern("source/*"), soon())).unwrap().done.len(), 1);
    control.set_interval(&pattern("source/test/slow"), OFTEN * 20).unwrap();
    let mark = polls.change(|polls| *polls);
    polls.until("it ticks on", |polls| *polls > mark + 5);
    let health = running.stop(STOPPING);
    let [errors, given, _] = books(&health, "source/test/slow");
    assert_eq!((errors, opened.load(Relaxed)), (0, 1));
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
    let registry = scene.registry();
    let (open, highest) = (scene.opener(), Arc::new(AtomicU64::new(0)));
    let most = highest.clone();
    // Always readable: the source is polled as fast as its batches are accepted.
    let (socket, other) = UnixStream::pair().unwrap();
    (&other).write_all(&[0]).unwrap();
    let socket = Arc::new(socket);
    scene.source("storm", Trigger::MANUAL, move || {
        let (open, most, mut rounds) = (open.clone(), most.clone(), 0);
        Ok(Wakes(socket.clone(), move |_: &Tick, out: &mut Batch| {
            rounds += 1;
            for _ in 0..if rounds <= ROUNDS { EACH } else { 0 } {
                let id = open("mayfly");
                most.fetch_max(id.index() as u64, Relaxed);
                out.push(id, Value::of_steps(1));
                out.end(id);
            }
            Ok(())
        }))
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
