//! A failing element harms no other: the pipeline with elements that panic, fail in each way, dawdle or never return.
//! Beside each runs a healthy one, and the books of points (given out = written + lost) close exactly.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic: that is how tests fail")]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use wattrace::pipeline::Pipeline;
use wattrace::pipeline::health::{Health, State};
use wattrace_api::{
    Batch, Clock, Error, Output, Registry, Resource, ResourceKind, SeriesId, SeriesSpec, Setup, Source, Tick,
    Timestamp, Transform, Trigger, Value, metric,
};

/// Longest wait for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the agent gives a pipeline to stop; the rest of five seconds is the process's own end.
const STOPPING: Duration = Duration::from_millis(4500);
const OFTEN: Duration = Duration::from_millis(1);

/// A value that one thread changes and another waits for.
#[derive(Default)]
struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock().unwrap());
        self.changed.notify_all();
        result
    }

    fn until(&self, what: &str, is_so: impl Fn(&T) -> bool) {
        let value = self.value.lock().unwrap();
        let (_value, waited) = self.changed.wait_timeout_while(value, PATIENCE, |v| !is_so(v)).unwrap();
        assert!(!waited.timed_out(), "in {PATIENCE:?} it did not happen that {what}");
    }
}

impl Watched<bool> {
    /// Stands still until the test lets it go on.
    fn pass(&self) {
        self.until("the test opens the gate", |open| *open);
    }

    fn open(&self) {
        self.change(|open| *open = true);
    }
}

/// An element made of a closure.
struct Does<F>(F);

impl<F: FnMut(&Tick, &mut Batch) -> Result<(), Error> + Send> Source for Does<F> {
    fn poll(&mut self, tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        (self.0)(tick, out)
    }
}

impl<F: FnMut(&mut Batch) -> Result<(), Error> + Send> Transform for Does<F> {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        (self.0)(batch)
    }
}

impl<F: FnMut(&Batch) -> Result<(), Error> + Send> Output for Does<F> {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        (self.0)(batch)
    }
}

/// What reached an output: points by their series' label, and labels of series that ended.
#[derive(Default)]
struct Log {
    points: Vec<(String, u64)>,
    ended: Vec<String>,
}

impl Log {
    fn of(&self, label: &str) -> Vec<u64> {
        self.points.iter().filter(|(l, _)| l == label).map(|(_, value)| *value).collect()
    }

    fn last(&self, label: &str) -> u64 {
        self.points.iter().rev().find(|(l, _)| l == label).map_or(0, |(_, value)| *value)
    }

    fn ends_of(&self, label: &str) -> usize {
        self.ended.iter().filter(|l| *l == label).count()
    }

    fn take(&mut self, registry: &Registry, batch: &Batch) {
        let label =
            |id| registry.get(id).map_or("already released".to_owned(), |s| s.resource.id.to_string());
        for segment in batch.segments() {
            self.points.extend(segment.points().map(|(id, value)| (label(id), value.steps())));
        }
        self.ended.extend(batch.ended().iter().map(|&id| label(id)));
    }
}

/// Elements being put together.
struct Scene {
    runtime: Runtime,
    registry: Arc<Registry>,
    setup: Setup,
}

impl Scene {
    fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let registry = Registry::new();
        let setup = Setup::new(registry.clone(), Clock::system(), runtime.handle().clone());
        Self { runtime, registry, setup }
    }

    /// Opens series that carry a label.
    fn opener(&self) -> impl Fn(&str) -> SeriesId + Send + Sync + Clone + 'static {
        let registry = self.registry.clone();
        move |label| {
            let metric = registry.metric(&metric::HW_ENERGY).unwrap();
            let resource = Resource { kind: ResourceKind::Package, id: label.to_owned().into() };
            let (domain, consumer, attributes) = (None, None, Vec::new());
            registry.open(SeriesSpec { metric, resource, domain, consumer, attributes, start: Timestamp(0) })
        }
    }

    /// Adds a source `name` that gives out 1, 2, 3, … on a series of its name.
    fn steady(&mut self, name: &'static str) {
        let open = self.opener();
        self.setup.source(name, Trigger::every(OFTEN), move || {
            let (id, mut n) = (open(name), 0);
            Ok(Does(move |_: &Tick, out: &mut Batch| {
                n += 1;
                out.push(id, Value::of_steps(n));
                Ok(())
            }))
        });
    }

    /// Adds an output `name` that logs all it is given once `before` has let the batch pass.
    fn output(
        &mut self,
        name: &'static str,
        before: impl Fn(u64) -> Result<(), Error> + Send + Sync + 'static,
    ) -> (Arc<Watched<Log>>, Arc<AtomicU64>) {
        let (log, opened) = (Arc::new(Watched::<Log>::default()), Arc::new(AtomicU64::new(0)));
        let (registry, before, calls) =
            (self.registry.clone(), Arc::new(before), Arc::new(AtomicU64::new(0)));
        let (shared, openings) = (log.clone(), opened.clone());
        self.setup.output(name, move || {
            openings.fetch_add(1, Relaxed);
            let (registry, log, before, calls) =
                (registry.clone(), shared.clone(), before.clone(), calls.clone());
            Ok(Does(move |batch: &Batch| {
                before(calls.fetch_add(1, Relaxed) + 1)?;
                log.change(|log| log.take(&registry, batch));
                Ok(())
            }))
        });
        (log, opened)
    }

    /// Adds an output that works.
    fn log(&mut self) -> Arc<Watched<Log>> {
        self.output("log", |_| Ok(())).0
    }

    fn start(mut self, queue: usize) -> Running {
        let added = self.setup.take_added().into_iter().map(|a| ("test", a)).collect();
        let pipeline = Pipeline::start(added, self.registry, Clock::system(), queue, self.runtime.handle());
        Running { runtime: self.runtime, pipeline }
    }
}

struct Running {
    runtime: Runtime,
    pipeline: Pipeline,
}

impl Running {
    fn health(&self, name: &str) -> Arc<Health> {
        find(self.pipeline.health(), name)
    }

    /// Stops within `limit`, or fails; then opens `gate`, so that threads which stand there end too.
    fn stop(self, limit: Duration, gate: Option<&Watched<bool>>) -> Vec<Arc<Health>> {
        let began = Instant::now();
        let deadline = tokio::time::Instant::from_std(began + limit);
        let health = self.runtime.block_on(self.pipeline.stop(deadline));
        let took = began.elapsed();
        assert!(took < limit + Duration::from_millis(400), "stopping took {took:?}");
        if let Some(gate) = gate {
            gate.open();
        }
        self.runtime.shutdown_timeout(PATIENCE);
        health
    }
}

fn find(all: &[Arc<Health>], name: &str) -> Arc<Health> {
    all.iter().find(|h| h.name == name).unwrap_or_else(|| panic!("no {name} in {all:?}")).clone()
}

/// Errors, points and lost points of an element.
fn books(all: &[Arc<Health>], name: &str) -> [u64; 3] {
    let h = find(all, name);
    [h.errors.load(Relaxed), h.points.load(Relaxed), h.lost.load(Relaxed)]
}

fn up_to(n: u64) -> Vec<u64> {
    (1..=n).collect()
}

#[test]
fn a_source_that_panics_at_every_third_poll_is_opened_anew_and_its_neighbour_ticks_on() {
    let mut scene = Scene::new();
    let (open, polls, opened) =
        (scene.opener(), Arc::new(Watched::<u64>::default()), Arc::new(AtomicU64::new(0)));
    let (polled, openings) = (polls.clone(), opened.clone());
    scene.setup.source("shaky", Trigger::every(OFTEN), move || {
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
    scene.steady("neighbour");
    let log = scene.log();
    let running = scene.start(256);
    polls.until("it panicked", |&n| n == 3);
    let before = log.change(|log| log.last("neighbour"));
    log.until("the neighbour ticks on", |log| log.last("neighbour") > before + 10);
    assert_eq!(
        running.health("source/test/shaky").state(),
        State::Failing("panicked: the meter bit at poll 3".into())
    );
    polls.until("it went on after three panics", |&n| n > 9);
    let health = running.stop(STOPPING, None);

    let polls = polls.change(|n| *n);
    assert_eq!(opened.load(Relaxed), polls.div_ceil(3), "each instance lives for three polls");
    assert_eq!(books(&health, "source/test/shaky"), [polls / 3, polls, 0]);
    let [errors, given, _] = books(&health, "source/test/neighbour");
    assert_eq!((errors, find(&health, "source/test/neighbour").state()), (0, State::Stopped));
    log.change(|log| {
        assert_eq!(log.of("shaky"), up_to(polls), "points from before a panic count");
        assert_eq!(log.ends_of("shaky") as u64, polls / 3, "what was open at a panic ends");
        assert_eq!(log.of("neighbour"), up_to(given));
    });
    assert_eq!(books(&health, "output/test/log"), [0, polls + given, 0]);
}

#[test]
fn each_kind_of_error_has_its_consequence_and_no_other() {
    let mut scene = Scene::new();
    let errors: [(&str, fn(&'static str) -> Error); 3] =
        [("gone", Error::gone), ("retry", Error::retry), ("fatal", Error::fatal)];
    let seen: Vec<_> = errors
        .into_iter()
        .map(|(name, error)| {
            // Times opened, times polled.
            let seen = Arc::new(Watched::<[u64; 2]>::default());
            let (open, shared) = (scene.opener(), seen.clone());
            scene.setup.source(name, Trigger::every(OFTEN), move || {
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
    let health = running.stop(STOPPING, None);

    assert_eq!(find(&health, "source/test/gone").state(), gone, "it stays said after the end");
    assert_eq!(seen[0].change(|s| *s), [1, 2], "what is gone is not polled again");
    assert_eq!(seen[1].change(|s| s[0]), 1, "what is to be tried again stays open");
    assert_eq!(seen[2].change(|s| s[0]), 2, "what failed for good is opened anew");
    let given: u64 = ["gone", "retry", "fatal"]
        .map(|name| {
            let [errors, points, _] = books(&health, &format!("source/test/{name}"));
            assert_eq!(errors, 1, "{name}");
            log.change(|log| {
                assert_eq!(log.of(name), up_to(points));
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
    scene.setup.source("mayflies", Trigger::every(OFTEN), move || {
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
    let health = running.stop(STOPPING, None);

    let [[_, steady, _], [_, mayflies, _]] =
        ["source/test/steady", "source/test/mayflies"].map(|name| books(&health, name));
    let [_, written, lost] = books(&health, "output/test/slow");
    slow.change(|slow| {
        assert_eq!(slow.of("mayfly"), up_to(mayflies), "last points are never dropped");
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
        scene.setup.source("brief", Trigger::every(OFTEN), move || {
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
        let health = running.stop(STOPPING, None);
        assert_eq!(shaky.change(|log| log.of("brief")), up_to(BATCHES));
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
    scene.setup.transform("shaky", move || {
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
    scene.setup.transform("after", move || {
        let (id, mut n) = (open("after"), 0);
        Ok(Does(move |batch: &mut Batch| {
            n += 1;
            batch.push(id, Value::of_steps(n));
            Ok(())
        }))
    });
    let log = scene.log();
    let running = scene.start(256);
    log.until("the transform came back", |log| log.last("sum") > 5);
    assert_eq!(running.health("transform/test/shaky").state(), State::Running);
    let health = running.stop(STOPPING, None);

    let [_, steady, _] = books(&health, "source/test/steady");
    assert_eq!((books(&health, "transform/test/shaky")[0], opened.load(Relaxed)), (1, 2));
    log.change(|log| {
        assert_eq!(log.of("steady"), up_to(steady), "batches went on as they stood");
        assert_eq!(log.of("after"), up_to(steady), "its neighbour saw each");
        let sums = log.of("sum");
        assert_eq!(sums[..3], [1, 2, 4]);
        assert_eq!(log.ends_of("sum"), 1, "what it had opened ended with it");
        assert!(sums.len() < log.of("after").len() - 50, "batches passed it by while it waited");
    });
}

#[test]
fn a_source_that_never_returns_holds_up_neither_its_neighbours_last_poll_nor_the_end() {
    const LAST: u64 = 1_000_000;
    for blocking in [true, false] {
        let mut scene = Scene::new();
        let gate = Arc::new(Watched::<bool>::default());
        let (at_gate, reached) = (gate.clone(), Arc::new(Watched::<bool>::default()));
        let tell = reached.clone();
        let open_stuck = move || {
            let (gate, tell) = (at_gate.clone(), tell.clone());
            Ok(Does(move |_: &Tick, _: &mut Batch| {
                tell.open();
                gate.pass();
                Ok(())
            }))
        };
        // First in the order in which sources are asked for their last poll.
        if blocking {
            scene.setup.blocking_source("stuck", Trigger::every(OFTEN), open_stuck);
        } else {
            scene.setup.source("stuck", Trigger::every(OFTEN), open_stuck);
        }
        let open = scene.opener();
        scene.setup.source("neighbour", Trigger::every(OFTEN), move || {
            let id = open("neighbour");
            Ok(Does(move |tick: &Tick, out: &mut Batch| {
                out.push(id, Value::of_steps(if tick.last { LAST } else { 1 }));
                Ok(())
            }))
        });
        let log = scene.log();
        let running = scene.start(256);
        reached.pass();
        let before = log.change(|log| log.points.len());
        log.until("the neighbour ticks on", |log| log.points.len() > before + 10);
        let health = running.stop(STOPPING, Some(&gate));
        assert_eq!(log.change(|log| log.last("neighbour")), LAST, "blocking: {blocking}");
        assert_eq!(find(&health, "source/test/neighbour").state(), State::Stopped);
        let [_, given, _] = books(&health, "source/test/neighbour");
        assert_eq!(books(&health, "output/test/log"), [0, given, 0]);
    }
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
    let (limit, stuck) = (Duration::from_secs(1), running.health("output/test/stuck"));
    let began = Instant::now();
    let deadline = tokio::time::Instant::from_std(began + limit);
    let health = running.runtime.block_on(running.pipeline.stop(deadline));
    let lost = stuck.lost.load(Relaxed);
    assert!(began.elapsed() < limit + Duration::from_millis(400), "{:?}", began.elapsed());
    let [_, given, _] = books(&health, "source/test/steady");
    assert_eq!(lost, given, "dropped while it stood, under way into it, and queued behind that");
    assert_eq!(books(&health, "output/test/log"), [0, given, 0]);
    gate.open();
}

#[test]
fn a_transform_that_never_returns_does_not_keep_the_agent_from_its_end() {
    let mut scene = Scene::new();
    scene.steady("steady");
    let gate = Arc::new(Watched::<bool>::default());
    let (at_gate, reached) = (gate.clone(), Arc::new(Watched::<bool>::default()));
    let tell = reached.clone();
    scene.setup.transform("stuck", move || {
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
    running.stop(Duration::from_secs(2), Some(&gate));
}
