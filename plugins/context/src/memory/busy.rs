//! The processes that use the most CPU time: a transform observes what passes, and a source on another thread
//! asks for the busiest.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use slab::Slab;
use wattrace_api::{
    Batch, Consumer, ConsumerKind, Error, Increments, Registry, Role, SeriesMap, Timestamp, Transform, Usage,
};

/// The processes, shared by the two.
#[derive(Clone, Debug, Default)]
pub(crate) struct Busy(Arc<Mutex<Slab<Process>>>);

#[derive(Debug)]
struct Process {
    consumer: Arc<Consumer>,
    /// Its open series of CPU time.
    series: u32,
    /// Nanoseconds; what was used before a [`Busy::take`] counts half.
    weight: u64,
}

impl Busy {
    /// The `count` busiest.
    pub(crate) fn take(&self, count: usize) -> Vec<Arc<Consumer>> {
        let mut processes = self.lock();
        // Kernel threads have no executable, and no memory of their own.
        let has_memory = |p: &Process| p.consumer.attribute("process.executable.path").is_some();
        let mut all: Vec<&Process> = processes.iter().map(|(_, p)| p).filter(|p| has_memory(p)).collect();
        if count < all.len() {
            all.select_nth_unstable_by_key(count, |p| Reverse(p.weight));
            all.truncate(count);
        }
        let busiest = all.into_iter().map(|p| p.consumer.clone()).collect();
        processes.iter_mut().for_each(|(_, p)| p.weight /= 2);
        busiest
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Process>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transform. It changes nothing.
pub(crate) struct Observer {
    busy: Busy,
    registry: Arc<Registry>,
    since: Timestamp,
    /// By series: the process, if it is one's CPU time.
    tracked: SeriesMap<Option<(usize, Increments)>>,
    by_address: FxHashMap<usize, usize>,
}

impl Observer {
    /// Puts what it sees from `since` on into `busy`.
    pub(crate) fn new(busy: Busy, registry: Arc<Registry>, since: Timestamp) -> Self {
        // What an earlier observer has left.
        busy.lock().clear();
        Self { busy, registry, since, tracked: SeriesMap::default(), by_address: FxHashMap::default() }
    }
}

impl Transform for Observer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let Self { busy, registry, since, tracked, by_address } = self;
        let mut processes = busy.lock();
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                let open = || {
                    let series = registry.get(id)?;
                    let consumer = series.consumer.as_ref()?;
                    let is_one = series.role == Role::Usage(Usage::CpuTime)
                        && consumer.kind() == ConsumerKind::Process;
                    if !is_one {
                        return None;
                    }
                    let at = *by_address.entry(Arc::as_ptr(consumer) as usize).or_insert_with(|| {
                        processes.insert(Process { consumer: consumer.clone(), series: 0, weight: 0 })
                    });
                    processes[at].series += 1;
                    Some((at, Increments::new(&series, *since)))
                };
                if let Some((at, increments)) = tracked.get_or_insert_with(id, open) {
                    processes[*at].weight += increments.next(segment.window, value);
                }
            }
        }
        for &id in batch.ended() {
            let Some(Some((at, _))) = tracked.remove(id) else { continue };
            processes[at].series -= 1;
            if processes[at].series == 0 {
                let ended = processes.remove(at);
                by_address.remove(&(Arc::as_ptr(&ended.consumer) as usize));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::testing::Rig;
    use wattrace_api::{Attribute, Identity, Resource, SeriesId, SeriesSpec, Window, metric};

    use super::*;

    fn process(rig: &Rig, pid: u32, executable: Option<&str>) -> SeriesId {
        let identity =
            Identity { kind: ConsumerKind::Process, id: pid.to_string().into(), start_unix_nano: 1 };
        let attributes = executable.map(|path| Attribute::new("process.executable.path", path));
        let consumer = Consumer::new(identity, None, attributes.into_iter().collect());
        let time = rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
        let spec = SeriesSpec::new(time, Resource::package(0), Timestamp(0));
        rig.registry.open(SeriesSpec { consumer: Some(Arc::new(consumer)), ..spec })
    }

    fn pids(busy: &Busy, count: usize) -> Vec<u32> {
        let ids = busy.take(count).into_iter().map(|consumer| consumer.identity().id.parse().unwrap());
        let mut ids: Vec<u32> = ids.collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn the_busiest_are_those_with_the_most_cpu_time_and_past_time_counts_half() {
        let (rig, busy) = (Rig::new(), Busy::default());
        let mut observer = Observer::new(busy.clone(), rig.registry.clone(), Timestamp(0));
        let [a, b, c] = [1, 2, 3].map(|pid| process(&rig, pid, Some("/bin/sh")));
        let kernel = process(&rig, 4, None);
        let window = |second: u64| Window::new(Timestamp(second * 10), Timestamp(second * 10 + 10));
        let mut pass = |second, points: &[_]| observer.apply(&mut rig.batch(window(second), points)).unwrap();
        pass(0, &[(a, 800), (b, 300), (c, 100), (kernel, 9000)]);
        assert_eq!(pids(&busy, 2), [1, 2], "the kernel's thread has no memory");
        pass(1, &[(c, 600)]);
        assert_eq!(pids(&busy, 1), [3], "400, 150 and 50 + 600");
        assert_eq!(pids(&busy, 9), [1, 2, 3], "those that rest stay where there is room");
    }

    #[test]
    fn who_has_ended_is_forgotten() {
        let (rig, busy) = (Rig::new(), Busy::default());
        let mut observer = Observer::new(busy.clone(), rig.registry.clone(), Timestamp(0));
        let [a, b] = [1, 2].map(|pid| process(&rig, pid, Some("/bin/sh")));
        let mut batch = rig.batch(Window::new(Timestamp(0), Timestamp(10)), &[(a, 5), (b, 6)]);
        batch.end(a);
        observer.apply(&mut batch).unwrap();
        assert_eq!((pids(&busy, 9), observer.by_address.len()), (vec![2], 1));
    }
}
