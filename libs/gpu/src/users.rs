//! Who uses one GPU: takes in what a reading told by pid, and tells it window by window, once it is known of
//! everyone in the window who that is. `process.rs` keeps one of them, `who.rs` knows all; which GPU said so
//! is for the plugins.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Attribute, Batch, Consumer, ConsumerKind, Error, MetricId, Registry, Resource, ResultExt, SeriesId,
    SeriesSpec, Timestamp, Value, Window, metric,
};

use crate::users::process::{Clocked, Process};
use crate::who::Who;

mod process;

/// How long a process may take to become known: two readings and a bit. After that it is read from /proc, or
/// its use is `unattributed`.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// The users of one GPU.
#[derive(Debug)]
pub struct Users {
    opener: Opener,
    time: MetricId,
    memory: MetricId,
    lateness: Duration,
    patience: Duration,
    processes: BTreeMap<u32, Process>,
    unknown: Clocked,
    /// What was used since the last window.
    staged: Uses,
    /// Windows in which somebody is not known yet, and those after them: each is told once, and in order.
    waiting: VecDeque<(Window, Uses)>,
    spare: Vec<Uses>,
}

/// Nanoseconds that engines worked.
#[derive(Debug, Default)]
struct Uses {
    by_pid: Vec<(u32, u64)>,
    by_somebody: u64,
}

impl Users {
    /// Nobody yet. What a process used is told up to `lateness` after its end.
    ///
    /// # Errors
    /// Fatal, if another plugin has declared the metrics otherwise.
    pub fn new(registry: Arc<Registry>, resource: Resource, lateness: Duration) -> Result<Self, Error> {
        let time = registry.metric(&metric::CONSUMER_GPU_TIME).or_fatal()?;
        let memory = registry.metric(&metric::CONSUMER_GPU_MEMORY).or_fatal()?;
        // A GPU's series tell by these which one they are about: they belong to no energy domain.
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
            unknown: Clocked::default(),
            staged: Uses::default(),
            waiting: VecDeque::new(),
            spare: Vec::new(),
        })
    }

    /// The engines worked `nanos` for `pid` in the window that the next [`Users::emit`] names.
    pub fn used(&mut self, pid: u32, nanos: u64, now: Timestamp) {
        if nanos > 0 {
            self.process(pid, now);
            self.staged.by_pid.push((pid, nanos));
        }
    }

    /// They worked for somebody, and nobody tells for whom.
    pub fn used_by_somebody(&mut self, nanos: u64) {
        self.staged.by_somebody = self.staged.by_somebody.saturating_add(nanos);
    }

    /// `pid` holds `bytes` of memory, on top of what was said since the last [`Users::emit`].
    pub fn holds(&mut self, pid: u32, bytes: u64, now: Timestamp) {
        let found = &mut self.process(pid, now).found;
        *found = Some(found.unwrap_or(0).saturating_add(bytes));
    }

    /// The only process that is known to hold memory, if there is exactly one.
    pub fn sole_holder(&self) -> Option<u32> {
        let mut holders = self.processes.iter().filter(|(_, process)| process.found.is_some());
        holders.next().map(|(pid, _)| *pid).filter(|_| holders.next().is_none())
    }

    fn process(&mut self, pid: u32, now: Timestamp) -> &mut Process {
        self.processes.entry(pid).or_insert_with(|| Process::met(now))
    }

    /// The agent stops: nobody is waited for any more.
    pub fn hurry(&mut self) {
        self.patience = Duration::ZERO;
    }

    /// Tells what was taken in: times with `used`, the window that they cover (`None`: it is not over yet),
    /// then memory with `held` (`None`: nobody looked, what was last said stands). A window in which somebody
    /// is not known yet is kept back, for two and a half seconds at most.
    ///
    /// Who used something or holds memory has a point in each window, a zero included.
    pub fn emit(
        &mut self,
        used: Option<Window>,
        held: Option<Window>,
        now: Timestamp,
        who: &mut Who,
        out: &mut Batch,
    ) {
        if let Some(window) = used {
            let staged = std::mem::replace(&mut self.staged, self.spare.pop().unwrap_or_default());
            self.waiting.push_back((window, staged));
        }
        if held.is_some() {
            self.processes.values_mut().for_each(|process| process.holds = process.found.take());
        }
        let patience = self.patience;
        for (&pid, process) in &mut self.processes {
            process.identify(pid, now.since(process.met) > patience, who, out);
        }
        while let Some((_, uses)) = self.waiting.front()
            && uses.by_pid.iter().all(|(pid, _)| self.is_settled(*pid, now))
            && let Some((window, uses)) = self.waiting.pop_front()
        {
            self.tell(window, &uses, out);
            self.spare.push(uses.emptied());
        }
        if let Some(window) = held {
            self.tell_memory(window, out);
        }
        let (lateness, waiting) = (self.lateness, &self.waiting);
        self.processes.retain(|&pid, process| {
            let awaited = || waiting.iter().any(|(_, uses)| uses.by_pid.iter().any(|(p, _)| *p == pid));
            !process.is_over(pid, now, lateness, who, awaited, out)
        });
    }

    /// Whether it is known who `pid` is, or has been for long enough that nobody will know.
    fn is_settled(&self, pid: u32, now: Timestamp) -> bool {
        self.processes.get(&pid).is_none_or(|p| p.consumer.is_some() || now.since(p.met) > self.patience)
    }

    /// Tells what was used in `window`.
    fn tell(&mut self, window: Window, uses: &Uses, out: &mut Batch) {
        out.begin(window);
        self.unknown.add(uses.by_somebody);
        for &(pid, nanos) in &uses.by_pid {
            match self.processes.get_mut(&pid) {
                Some(process) if process.consumer.is_some() => process.time.add(nanos),
                _ => self.unknown.add(nanos),
            }
        }
        for process in self.processes.values_mut() {
            if let Some(consumer) = &process.consumer
                && (std::mem::take(&mut process.time.grew) || process.holds.is_some())
            {
                process.time.push(|| self.opener.open(self.time, consumer, window.start), out);
            }
        }
        if std::mem::take(&mut self.unknown.grew) {
            let nobody = Arc::new(Consumer::closing(ConsumerKind::Unattributed));
            self.unknown.push(|| self.opener.open(self.time, &nobody, window.start), out);
        }
    }

    /// Tells who held how much memory at the end of `window`.
    fn tell_memory(&mut self, window: Window, out: &mut Batch) {
        out.begin(window);
        for process in self.processes.values_mut() {
            match (process.holds, &process.consumer) {
                (Some(bytes), Some(consumer)) => {
                    let open = || self.opener.open(self.memory, consumer, window.start);
                    out.push(*process.memory.get_or_insert_with(open), Value::of_gauge(bytes as f64));
                }
                (None, _) => process.memory.take().into_iter().for_each(|series| out.end(series)),
                (Some(_), None) => {}
            }
        }
    }

    /// The GPU is gone: tells what is still kept back, and ends all series.
    pub fn end(&mut self, out: &mut Batch) {
        for (window, uses) in std::mem::take(&mut self.waiting) {
            self.tell(window, &uses, out);
        }
        self.processes.values_mut().for_each(|process| process.end(out));
        self.unknown.series.take().into_iter().for_each(|series| out.end(series));
        self.processes.clear();
        (self.unknown, self.staged) = (Clocked::default(), Uses::default());
    }
}

impl Uses {
    fn emptied(mut self) -> Self {
        self.by_pid.clear();
        self.by_somebody = 0;
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
