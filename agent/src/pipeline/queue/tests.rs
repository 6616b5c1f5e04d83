//! What each policy drops, what none does, and that all of it is counted.

use wattrace_api::{Clock, ElementKind, Registry, Resource, SeriesSpec, Timestamp, Value, metric};

use super::super::flow::BatchPool;
use super::*;

fn series(registry: &Registry) -> SeriesId {
    let metric = registry.metric(&metric::HW_ENERGY).unwrap();
    registry.open(SeriesSpec::new(metric, Resource::HOST, Timestamp(0)))
}

fn queue(batches: usize, policy: QueuePolicy) -> (Arc<Queue>, Arc<Health>) {
    bounded(Bounds { batches, points: usize::MAX, policy })
}

fn bounded(bounds: Bounds) -> (Arc<Queue>, Arc<Health>) {
    let health = Health::new(ElementKind::Output, "test", "queue", Duration::ZERO, Clock::system());
    (Queue::new(bounds, health.clone()), health)
}

struct World {
    registry: Arc<Registry>,
    pool: Arc<BatchPool>,
    living: SeriesId,
}

impl World {
    fn new() -> Self {
        let registry = Registry::new();
        Self { pool: BatchPool::new(registry.clone()), living: series(&registry), registry }
    }

    /// A batch whose living series stands at `value`.
    fn batch(&self, value: u64, ending: Option<SeriesId>) -> Arc<Shared> {
        let mut batch = self.pool.take(1);
        batch.push(self.living, Value::of_steps(value));
        if let Some(ending) = ending {
            batch.push(ending, Value::of_steps(77));
            batch.end(ending);
        }
        self.pool.share(batch)
    }
}

impl World {
    /// A batch of `points` points, each of which stands at that number.
    fn large(&self, points: usize) -> Arc<Shared> {
        let mut batch = self.pool.take(1);
        (0..points).for_each(|_| batch.push(self.living, Value::of_steps(points as u64)));
        self.pool.share(batch)
    }
}

/// What the queue gives: values of batches, negative where kept_ends, flushes from 1000 on.
fn drain(queue: &Queue) -> Vec<i64> {
    let mut seen = Vec::new();
    loop {
        let first = |batch: &Batch| batch.segments().next().map_or(0, |s| s.values[0].steps() as i64);
        match queue.next(Duration::ZERO) {
            Next::Batch(batch) => seen.push(first(&batch)),
            Next::LastPoints(batch, _) => seen.push(-first(&batch)),
            Next::Flush(number) => seen.push(1000 + number as i64),
            Next::Reset => seen.push(0),
            Next::Idle | Next::Closed => return seen,
        }
    }
}

#[test]
fn the_oldest_goes_first_is_counted_and_last_points_stay() {
    let world = World::new();
    let ending = series(&world.registry);
    let (queue, health) = queue(2, QueuePolicy::DropOldest);
    for i in 0..5 {
        queue.push(world.batch(i, (i == 1).then_some(ending)));
    }
    assert_eq!((health.lost.load(Relaxed), health.points_in.load(Relaxed)), (3, 6), "two batches fit");
    let Next::LastPoints(kept_ends, ends) = queue.next(Duration::ZERO) else {
        panic!("nothing was kept_ends")
    };
    assert_eq!(kept_ends.segments().flat_map(|s| s.points().collect::<Vec<_>>()).count(), 1);
    assert_eq!(kept_ends.ended(), &[ending]);
    assert!(world.registry.get(ending).is_some(), "not to be reused while its end is under way");
    drop(ends);
    assert!(world.registry.get(ending).is_none());
    assert_eq!(drain(&queue), [3, 4]);
    queue.close();
    assert!(matches!(queue.next(Duration::ZERO), Next::Closed));
}

#[test]
fn the_newest_goes_and_its_last_points_come_after_what_was_there_before() {
    let world = World::new();
    let (queue, health) = queue(2, QueuePolicy::DropNewest);
    for i in 1..=2 {
        queue.push(world.batch(i, None));
    }
    for i in 3..=5 {
        queue.push(world.batch(i, Some(series(&world.registry))));
    }
    assert_eq!(health.lost.load(Relaxed), 3);
    assert!(matches!(queue.next(Duration::ZERO), Next::Batch(_)));
    queue.push(world.batch(6, None));
    assert_eq!(drain(&queue), [2, -77, 6], "an end never overtakes the points before it");
    assert_eq!(world.registry.series().len(), 1, "all ends have passed");
}

#[test]
fn block_waits_for_room_and_for_no_longer() {
    let world = World::new();
    let (queue, health) = queue(1, QueuePolicy::Block);
    queue.push(world.batch(1, None));
    std::thread::scope(|threads| {
        let pushing = threads.spawn(|| queue.push(world.batch(2, None)));
        // It comes while the other thread waits, or before it has begun to: either way there is room then.
        assert!(matches!(queue.next(Duration::ZERO), Next::Batch(_)));
        pushing.join().unwrap();
        let pushing = threads.spawn(|| queue.push(world.batch(3, None)));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!pushing.is_finished(), "there is no room");
        queue.stop_blocking();
        pushing.join().unwrap();
    });
    queue.push(world.batch(4, None));
    assert_eq!((drain(&queue), health.lost.load(Relaxed)), (vec![2, 3, 4], 0));
}

#[test]
fn points_are_bounded_too_and_all_that_go_are_counted() {
    let world = World::new();
    let (oldest, health) = bounded(Bounds { batches: 100, points: 10, policy: QueuePolicy::DropOldest });
    [3, 4, 2].into_iter().for_each(|points| oldest.push(world.large(points)));
    assert_eq!((oldest.depth(), health.lost.load(Relaxed)), ((3, 9), 0));
    oldest.push(world.large(6));
    assert_eq!((oldest.depth(), health.lost.load(Relaxed)), ((2, 8), 7), "as many go as have to");
    oldest.push(world.large(25));
    assert_eq!((oldest.depth(), health.lost.load(Relaxed)), ((1, 25), 15), "one may wait, however large");
    oldest.push(world.large(1));
    assert_eq!((drain(&oldest), oldest.depth(), health.lost.load(Relaxed)), (vec![1], (0, 0), 40));

    let (newest, health) = bounded(Bounds { batches: 100, points: 10, policy: QueuePolicy::DropNewest });
    [8, 3, 2].into_iter().for_each(|points| newest.push(world.large(points)));
    assert_eq!((drain(&newest), health.lost.load(Relaxed)), (vec![8, 2], 3));

    let (block, health) = bounded(Bounds { batches: 100, points: 10, policy: QueuePolicy::Block });
    block.push(world.large(8));
    std::thread::scope(|threads| {
        let pushing = threads.spawn(|| block.push(world.large(7)));
        std::thread::sleep(Duration::from_millis(20));
        assert!(!pushing.is_finished(), "there is no room");
        // Longer than an output lingers: who waits for room is not kept waiting by that.
        assert!(matches!(block.next(Duration::from_secs(20)), Next::Batch(_)));
        pushing.join().unwrap();
    });
    assert_eq!((drain(&block), health.lost.load(Relaxed)), (vec![7], 0));
    block.push(world.large(8));
    assert_eq!((block.abandon(), block.depth()), (8, (0, 0)));
}

#[test]
fn a_paused_output_delays_no_other_and_still_flushes() {
    let world = World::new();
    let (queue, health) = queue(2, QueuePolicy::Block);
    queue.pause(true);
    (1..=3).for_each(|i| queue.push(world.batch(i, None)));
    queue.request_flush();
    assert_eq!((drain(&queue), health.lost.load(Relaxed)), (vec![1001], 1));
    queue.pause(false);
    assert_eq!(drain(&queue), [2, 3]);
    queue.pause(true);
    queue.push(world.batch(4, None));
    queue.close();
    assert_eq!(drain(&queue), [4], "what waits at the end is not lost for being paused");
}

#[test]
fn a_flush_comes_after_what_was_there_when_it_was_asked_for() {
    let world = World::new();
    let (queue, _) = queue(2, QueuePolicy::DropOldest);
    queue.push(world.batch(1, Some(series(&world.registry))));
    queue.request_flush();
    (2..=3).for_each(|i| queue.push(world.batch(i, None)));
    assert_eq!(drain(&queue), [-77, 1001, 2, 3]);
}

#[test]
fn an_output_that_stands_still_in_a_storm_of_ends_is_started_afresh() {
    for policy in [QueuePolicy::DropOldest, QueuePolicy::DropNewest] {
        let world = World::new();
        let (queue, health) = queue(1, policy);
        for _ in 0..4 {
            let mut batch = world.pool.take(1);
            for _ in 0..MAX_KEPT_ENDS / 2 {
                let id = series(&world.registry);
                batch.push(id, Value::of_steps(1));
                batch.end(id);
            }
            queue.push(world.pool.share(batch));
        }
        assert!(matches!(queue.next(Duration::ZERO), Next::Reset));
        // All that is still queued was pushed after the reset; everything else was counted and its ids are
        // free.
        let points = 4 * (MAX_KEPT_ENDS / 2) as u64;
        assert_eq!(queue.abandon() + health.lost.load(Relaxed), points, "{policy:?}");
        assert_eq!(world.registry.series().len(), 1, "only the one that never ended");
    }
}
