//! The use of one GPU by process: takes engine times and memory by pid, and writes them window by window to
//! the series of the processes' consumers. `process.rs` keeps one process, `resolver.rs` resolves pids; the
//! plugins read the GPU.
//!
//! A window is written once every pid in it is resolved, so that each window is written once and in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Error, MetricId, Registry, Resource, ResultExt, SeriesId,
    SeriesSpec, Timestamp, Value, Window, metric,
};

use crate::resolver::ProcessResolver;
use crate::usage::process::{EngineTime, GpuProcess};

mod process;

/// How long to wait for a process to appear in the directory: two readings and a bit. After that it is read
/// from /proc, or else its use is `unattributed`.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// The use of one GPU by process.
#[derive(Debug)]
pub struct ProcessUsage {
    opener: Opener,
    time: MetricId,
    memory: MetricId,
    lateness: Duration,
    patience: Duration,
    processes: BTreeMap<u32, GpuProcess>,
    unattributed: EngineTime,
    /// Engine times since the last window.
    current: Times,
    /// Windows that wait for a pid to be resolved, and those after them.
    pending: VecDeque<(Window, Times)>,
    /// Emptied ones, to be used again.
    spare: Vec<Times>,
}

/// Nanoseconds that engines worked in a window.
#[derive(Debug, Default)]
struct Times {
    by_pid: Vec<(u32, u64)>,
    unattributed: u64,
}

impl ProcessUsage {
    /// No use yet. A process's use may be reported up to `lateness` after its end.
    ///
    /// # Errors
    /// Fatal, if another plugin has declared the metrics otherwise.
    pub fn new(registry: Arc<Registry>, resource: Resource, lateness: Duration) -> Result<Self, Error> {
        let time = registry.metric(&metric::CONSUMER_GPU_TIME).or_fatal()?;
        let memory = registry.metric(&metric::CONSUMER_GPU_MEMORY).or_fatal()?;
        // These series belong to no energy domain, so these attributes name their GPU.
        let attributes = vec![
            Attribute::new("hw.id", format!("gpu-{}", resource.id)),
            Attribute::new("hw.type", resource.kind.hw_type().to_owned()),
        ];
        Ok(Self {
            opener: Opener { registry, resource, attributes },
            time,
            memory,
            lateness,
            patience: PATIENCE,
            processes: BTreeMap::new(),
            unattributed: EngineTime::default(),
            current: Times::default(),
            pending: VecDeque::new(),
            spare: Vec::new(),
        })
    }

    /// Engines worked `nanos` for `pid` in the window that the next [`ProcessUsage::emit`] names.
    pub fn add_time(&mut self, pid: u32, nanos: u64, now: Timestamp) {
        if nanos > 0 {
            self.process(pid, now);
            self.current.by_pid.push((pid, nanos));
        }
    }

    /// Engines worked `nanos` in that window for a process that is not known.
    pub fn add_unattributed_time(&mut self, nanos: u64) {
        self.current.unattributed = self.current.unattributed.saturating_add(nanos);
    }

    /// `pid` holds `bytes` of memory, in addition to what was added since the last [`ProcessUsage::emit`].
    pub fn add_memory(&mut self, pid: u32, bytes: u64, now: Timestamp) {
        let reading = &mut self.process(pid, now).reading;
        *reading = Some(reading.unwrap_or(0).saturating_add(bytes));
    }

    /// The process that holds memory, if it is the only one.
    pub fn sole_holder(&self) -> Option<u32> {
        let mut holders = self.processes.iter().filter(|(_, process)| process.reading.is_some());
        holders.next().map(|(pid, _)| *pid).filter(|_| holders.next().is_none())
    }

    fn process(&mut self, pid: u32, now: Timestamp) -> &mut GpuProcess {
        self.processes.entry(pid).or_insert_with(|| GpuProcess::new(now))
    }

    /// From now on no window waits for a pid to be resolved: the agent is about to stop.
    pub fn stop_waiting(&mut self) {
        self.patience = Duration::ZERO;
    }

    /// Writes what was added: engine times of the window `used` (`None`: that window is not over yet), and
    /// memory of the window `held` (`None`: memory was not read, the last values still hold). A window with a
    /// pid that is not resolved yet is held back for up to 2.5 s.
    ///
    /// A process that used the GPU or holds memory has a point in each window, also of a counter that did not
    /// grow.
    pub fn emit(
        &mut self,
        used: Option<Window>,
        held: Option<Window>,
        now: Timestamp,
        resolver: &mut ProcessResolver,
        out: &mut Batch,
    ) {
        if let Some(window) = used {
            let times = std::mem::replace(&mut self.current, self.spare.pop().unwrap_or_default());
            self.pending.push_back((window, times));
        }
        if held.is_some() {
            self.processes.values_mut().for_each(|process| process.memory = process.reading.take());
        }
        let patience = self.patience;
        for (&pid, process) in &mut self.processes {
            process.resolve(pid, now.since(process.first_seen) > patience, resolver, out);
        }
        while let Some((_, times)) = self.pending.front()
            && times.by_pid.iter().all(|(pid, _)| self.is_settled(*pid, now))
            && let Some((window, times)) = self.pending.pop_front()
        {
            self.write_times(window, &times, out);
            self.spare.push(times.emptied());
        }
        if let Some(window) = held {
            self.write_memory(window, out);
        }
        let (lateness, pending) = (self.lateness, &self.pending);
        self.processes.retain(|&pid, process| {
            let is_pending = || pending.iter().any(|(_, times)| times.by_pid.iter().any(|(p, _)| *p == pid));
            !process.finish((pid, now), lateness, is_pending, resolver, out)
        });
    }

    /// Whether `pid` is resolved, or has had its time to be.
    fn is_settled(&self, pid: u32, now: Timestamp) -> bool {
        self.processes
            .get(&pid)
            .is_none_or(|p| p.consumer.is_some() || now.since(p.first_seen) > self.patience)
    }

    fn write_times(&mut self, window: Window, times: &Times, out: &mut Batch) {
        out.begin(window);
        self.unattributed.add(times.unattributed);
        for &(pid, nanos) in &times.by_pid {
            match self.processes.get_mut(&pid) {
                Some(process) if process.consumer.is_some() => process.time.add(nanos),
                _ => self.unattributed.add(nanos),
            }
        }
        for process in self.processes.values_mut() {
            if let Some(consumer) = &process.consumer
                && (std::mem::take(&mut process.time.grew) || process.memory.is_some())
            {
                process.time.push(|| self.opener.open(self.time, consumer, window.start), out);
            }
        }
        if std::mem::take(&mut self.unattributed.grew) {
            let consumer = Arc::new(Consumer::closing(ConsumerKind::Unattributed));
            self.unattributed.push(|| self.opener.open(self.time, &consumer, window.start), out);
        }
    }

    /// Writes the memory that each process held at the end of `window`.
    fn write_memory(&mut self, window: Window, out: &mut Batch) {
        out.begin(window);
        for process in self.processes.values_mut() {
            match (process.memory, &process.consumer) {
                (Some(bytes), Some(consumer)) => {
                    let open = || self.opener.open(self.memory, consumer, window.start);
                    out.push(*process.memory_series.get_or_insert_with(open), Value::of_gauge(bytes as f64));
                }
                (None, _) => process.memory_series.take().into_iter().for_each(|series| out.end(series)),
                (Some(_), None) => {}
            }
        }
    }

    /// The GPU is gone: writes the pending windows, and ends all series.
    pub fn end(&mut self, out: &mut Batch) {
        for (window, times) in std::mem::take(&mut self.pending) {
            self.write_times(window, &times, out);
        }
        self.processes.values_mut().for_each(|process| process.end_series(out));
        self.unattributed.series.take().into_iter().for_each(|series| out.end(series));
        self.processes.clear();
        (self.unattributed, self.current) = (EngineTime::default(), Times::default());
    }
}

impl Times {
    fn emptied(mut self) -> Self {
        self.by_pid.clear();
        self.unattributed = 0;
        self
    }
}

/// Opens series about one GPU.
#[derive(Debug)]
struct Opener {
    registry: Arc<Registry>,
    resource: Resource,
    attributes: Vec<Attribute>,
}

impl Opener {
    fn open(&self, metric: MetricId, consumer: &Arc<Consumer>, start: Timestamp) -> SeriesId {
        self.registry.open(SeriesSpec {
            consumer: Some(consumer.clone()),
            attributes: self.attributes.clone(),
            ..SeriesSpec::new(metric, self.resource.clone(), start)
        })
    }
}

#[cfg(test)]
mod tests;
