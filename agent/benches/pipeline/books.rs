//! What it costs to close attribution's books: per point when windows are a second and a millisecond long,
//! with CPU time alone and with hardware counters, and per process when many come and go.

use std::sync::Arc;
use std::time::Instant;

use wattrace_api::{
    Batch, Consumer, ConsumerKind, Domain, Follows, Identity, Metric, Origin, Registry, Resource, SeriesId,
    SeriesSpec, Timestamp, Transform, Value, Window, metric,
};
use wattrace_attribution::{AttributionConfig, Transformer};

const SECOND: u64 = 1_000_000_000;
/// Processes that run all the time.
const STEADY: u64 = 100;
/// Kinds of code that they run, where hardware counters tell. Each sleeps in one second of so many, so that
/// there is something to learn.
const KINDS: u64 = 6;

/// A package with a meter, and processes that use it.
struct Scene {
    registry: Arc<Registry>,
    books: Transformer,
    meter: SeriesId,
    idle: SeriesId,
    now: u64,
    watts: u64,
    millijoules: u64,
}

impl Scene {
    fn new() -> Self {
        let registry = Registry::new();
        let domain = Domain {
            name: "package-0".to_owned(),
            origin: Origin::Simulated,
            follows: Follows::Package(0),
            within: None,
            idle_microwatts: None,
        };
        let energy = registry.metric(&metric::HW_ENERGY).expect("its own metric");
        let meter = registry.open(SeriesSpec {
            domain: Some(Arc::new(domain)),
            ..SeriesSpec::new(energy, Resource::package(0), Timestamp(0))
        });
        let idle = open(&registry, Arc::new(Consumer::closing(ConsumerKind::Idle)), 0);
        let config = AttributionConfig { state: "none".into(), ..AttributionConfig::default() };
        let books = Transformer::open(&config, registry.clone()).expect("the books open");
        Self { registry, books, meter, idle, now: 0, watts: 20, millijoules: 0 }
    }

    /// A window passes in which these get so far, and then those end. Returns how many points came of it.
    fn pass(&mut self, nanos: u64, used: impl Iterator<Item = (SeriesId, u64)>, ended: &[SeriesId]) -> usize {
        let window = Window::new(Timestamp(self.now), Timestamp(self.now + nanos));
        self.now += nanos;
        self.millijoules += self.watts * nanos / 1_000_000;
        let mut batch = Batch::default();
        batch.begin(window);
        batch.push(self.meter, Value::of_steps(self.millijoules * 1000));
        batch.push(self.idle, Value::of_steps(self.now / 2));
        used.for_each(|(id, nanos)| batch.push(id, Value::of_steps(nanos)));
        ended.iter().for_each(|&id| batch.end(id));
        self.books.apply(&mut batch).expect("the books close");
        self.registry.release(batch.ended());
        batch.len()
    }

    fn process(&self, pid: u64) -> SeriesId {
        open(&self.registry, consumer(pid), self.now)
    }
}

fn consumer(pid: u64) -> Arc<Consumer> {
    let identity = Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: pid };
    Arc::new(Consumer::new(identity, None, Vec::new()))
}

fn open(registry: &Registry, consumer: Arc<Consumer>, start: u64) -> SeriesId {
    open_of(registry, &metric::CONSUMER_CPU_TIME, consumer, start)
}

fn open_of(registry: &Registry, metric: &Metric, consumer: Arc<Consumer>, start: u64) -> SeriesId {
    let metric = registry.metric(metric).expect("its own metric");
    let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(start));
    registry.open(SeriesSpec { consumer: Some(consumer), ..spec })
}

/// Nanoseconds per point once all is steady.
fn per_point(window: u64) -> f64 {
    let mut scene = Scene::new();
    let processes: Vec<_> = (0..STEADY).map(|pid| scene.process(pid)).collect();
    let pass = |scene: &mut Scene| {
        let so_far = scene.now / 2 / STEADY;
        scene.pass(window, processes.iter().map(|&id| (id, so_far + window / 2 / STEADY)), &[])
    };
    steady(&mut scene, pass)
}

/// The same with hardware counters.
fn per_counted_point(window: u64) -> f64 {
    let mut scene = Scene::new();
    let [cycles, instructions, misses] = &metric::CONSUMER_COUNTS;
    let metrics =
        [&metric::CONSUMER_CPU_TIME, cycles, instructions, misses, &metric::CONSUMER_WEIGHTED_CYCLES];
    let mut processes: Vec<_> = (0..STEADY)
        .map(|pid| {
            let consumer = consumer(pid);
            (metrics.map(|metric| open_of(&scene.registry, metric, consumer.clone(), 0)), [0; 5])
        })
        .collect();
    let pass = |scene: &mut Scene| {
        let asleep = scene.now / SECOND % KINDS;
        scene.watts = 15 + asleep;
        for (kind, (_, counts)) in (0..KINDS).cycle().zip(&mut processes).filter(|(kind, _)| *kind != asleep)
        {
            let time = window / 2 / STEADY;
            // 3 GHz, and a third of an instruction to two per cycle.
            let (cycles, instructions) = (3 * time, (kind + 1) * time);
            let more = [time, cycles, instructions, instructions >> (kind + 6), 9 * cycles];
            counts.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
        let all = processes.iter().flat_map(|(ids, counts)| ids.iter().copied().zip(*counts));
        scene.pass(window, all, &[])
    };
    steady(&mut scene, pass)
}

/// Nanoseconds per point of `pass`, which returns the number of its points, once all is steady.
fn steady(scene: &mut Scene, mut pass: impl FnMut(&mut Scene) -> usize) -> f64 {
    // Longer than usage is remembered at all.
    while scene.now < 20 * SECOND {
        pass(scene);
    }
    let began = Instant::now();
    let points: usize = (0..2_000).map(|_| pass(scene)).sum();
    began.elapsed().as_nanos() as f64 / points as f64
}

/// Nanoseconds per process where so many begin in each second and end in the next.
fn per_process(at_once: u64) -> f64 {
    let (mut scene, mut last, mut begun) = (Scene::new(), Vec::new(), 0);
    let began = Instant::now();
    while begun < 200_000 {
        let new: Vec<_> = (begun..begun + at_once).map(|pid| scene.process(pid)).collect();
        begun += at_once;
        scene.pass(SECOND, new.iter().map(|&id| (id, SECOND / 2 / at_once)), &last);
        last = new;
    }
    began.elapsed().as_nanos() as f64 / begun as f64
}

pub(crate) fn run(_: u64) {
    let (second, millisecond) = (per_point(SECOND), per_point(SECOND / 1000));
    println!(
        "attribution, {STEADY} processes: {second:.1} ns a point in windows of 1 s, \
         {millisecond:.1} in windows of 1 ms: {:.2} times",
        millisecond / second
    );
    let counted = [SECOND, SECOND / 1000].map(per_counted_point);
    println!(
        "with hardware counters: {:.1} and {:.1} ns a point: {:.2} and {:.2} times",
        counted[0],
        counted[1],
        counted[0] / second,
        counted[1] / millisecond
    );
    let (few, many) = (per_process(100), per_process(10_000));
    println!(
        "and where processes come and go: {few:.0} ns each at 100 a second, {many:.0} at 10,000: {:.2} times",
        many / few
    );
}
