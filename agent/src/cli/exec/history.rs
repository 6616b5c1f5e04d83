//! Records when everybody used how much energy, for the page of `--html`: a transform that changes nothing.
//! `recorder.rs` has the sums. The page names the command's processes only: the report may be given to
//! others, whom the rest of the machine does not concern.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use wattrace_api::{
    Batch, Clock, Consumer, ConsumerKind, Error, Identity, Increments, Registry, Role, Series, SeriesMap,
    Timestamp, Transform,
};
use wattrace_page::{About, ConsumerInfo, Document, History, Window, summarise};

/// Who used how much when, since the command began.
#[derive(Default)]
pub(in crate::cli) struct RunHistory {
    history: History,
    /// By their index in `history`.
    consumers: Vec<Arc<Consumer>>,
    /// Index of each by its address, which stays: `consumers` keeps it alive.
    places: HashMap<usize, usize>,
}

impl RunHistory {
    /// The command begins now.
    pub(super) fn reset(&mut self) {
        self.history.clear();
    }

    fn consumer(&mut self, consumer: &Arc<Consumer>) -> usize {
        *self.places.entry(Arc::as_ptr(consumer) as usize).or_insert_with(|| {
            self.consumers.push(consumer.clone());
            // What it is called is known at the end.
            self.history
                .consumer(ConsumerInfo { kind: consumer.kind().as_str().into(), ..Default::default() })
        })
    }

    /// What the page shows. All processes that are not among `selected` are one.
    pub(super) fn into_document(mut self, command: &str, selected: &HashSet<&Identity>) -> Document {
        let (kind, name) = ("other".to_owned(), "other processes".to_owned());
        let other = self.history.consumer(ConsumerInfo { kind, name, ..Default::default() });
        for (place, consumer) in self.consumers.iter().enumerate() {
            match consumer.kind() {
                ConsumerKind::Process if selected.contains(consumer.identity()) => {
                    self.history.info_mut(place).into_iter().for_each(|info| *info = described(consumer));
                }
                ConsumerKind::Process | ConsumerKind::Other => self.history.merge(place, other),
                _ => {}
            }
        }
        summarise(&self.history, &About { title: command.into(), is_relative: true, ..About::default() })
    }
}

fn described(process: &Consumer) -> ConsumerInfo {
    let text = |key| process.attribute(key).map(|value| value.to_string()).filter(|text| !text.is_empty());
    let identity = process.identity();
    ConsumerInfo {
        kind: identity.kind.as_str().into(),
        id: identity.id.to_string(),
        name: text("process.executable.name").or_else(|| text("wattrace.process.comm")).unwrap_or_default(),
        start_unix_nano: identity.start_unix_nano,
        end_unix_nano: process.end_unix_nano(),
        parent: process.parent().map(|parent| parent.id.to_string()),
    }
}

/// A history that a transform writes and the report reads.
pub(in crate::cli) type SharedHistory = Arc<Mutex<RunHistory>>;

/// Locks it.
pub(super) fn lock(history: &Mutex<RunHistory>) -> std::sync::MutexGuard<'_, RunHistory> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A transform, and behind it the writer of a history, if there is one.
pub(super) struct WithHistory<T> {
    inner: T,
    writer: Option<Writer>,
}

impl<T> WithHistory<T> {
    pub(super) fn new(
        inner: T,
        history: Option<SharedHistory>,
        registry: Arc<Registry>,
        since: Timestamp,
    ) -> Self {
        let writer = history.map(|history| {
            let (clock, targets) = (Clock::system(), SeriesMap::default());
            Writer { history, registry, clock, since, targets }
        });
        Self { inner, writer }
    }
}

impl<T: Transform> Transform for WithHistory<T> {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.inner.apply(batch)?;
        if let Some(writer) = &mut self.writer {
            writer.take(batch);
        }
        Ok(())
    }
}

struct Writer {
    history: SharedHistory,
    registry: Arc<Registry>,
    clock: Clock,
    /// When it began to observe.
    since: Timestamp,
    /// Per series, decided once; `None`: the page does not need it.
    targets: SeriesMap<Option<(Target, Increments)>>,
}

/// What the points of a series are about.
#[derive(Clone, Copy)]
struct Target {
    domain: usize,
    /// `None`: what the meter counts.
    consumer: Option<usize>,
}

/// The target of a series; `None`: the page does not need it.
fn target(series: &Series, history: &mut RunHistory) -> Option<Target> {
    use ConsumerKind::{Idle, Irq, Other, Process, Unattributed};
    let domain = series.domain.as_ref().filter(|_| matches!(series.role, Role::Meter | Role::Energy))?;
    let consumer = match &series.consumer {
        None => None,
        Some(consumer) if matches!(consumer.kind(), Process | Idle | Irq | Other | Unattributed) => {
            Some(history.consumer(consumer))
        }
        Some(_) => return None,
    };
    let counts = series.counts_in_totals();
    Some(Target { domain: history.history.domain(&domain.name, domain.origin.as_str(), counts), consumer })
}

impl Writer {
    fn take(&mut self, batch: &Batch) {
        let mut history = lock(&self.history);
        for segment in batch.segments() {
            let [begin, end] =
                [segment.window.start, segment.window.end].map(|time| self.clock.unix_nanos(time));
            let window = Window { begin, end };
            for (id, value) in segment.points() {
                let open = || {
                    let series = self.registry.get(id)?;
                    let target = target(&series, &mut history)?;
                    Some((target, Increments::new(&series, self.since)))
                };
                let Some((target, increments)) = self.targets.get_or_insert_with(id, open) else { continue };
                let Target { domain, consumer } = *target;
                let steps = increments.next(segment.window, value);
                match consumer {
                    None => history.history.measured(domain, window, steps),
                    Some(consumer) => history.history.used(consumer, domain, window, steps),
                }
            }
        }
        for &id in batch.ended() {
            self.targets.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::testing::Rig;
    use wattrace_api::{Attribute, Domain, Follows, Origin, Resource, SeriesId, SeriesSpec, metric};

    use super::*;

    struct Nothing;

    impl Transform for Nothing {
        fn apply(&mut self, _: &mut Batch) -> Result<(), Error> {
            Ok(())
        }
    }

    fn process(pid: &'static str, name: &str) -> Arc<Consumer> {
        let identity = Identity { kind: ConsumerKind::Process, id: pid.into(), start_unix_nano: 5 };
        Arc::new(Consumer::new(identity, None, vec![Attribute::new("process.executable.name", name)]))
    }

    fn open(rig: &Rig, consumer: Option<&Arc<Consumer>>) -> SeriesId {
        let (name, origin) = ("package-0".to_owned(), Origin::Simulated);
        let follows = Follows::Package(0);
        let domain = Domain { name, origin, follows, within: None, idle_microwatts: None };
        let metric = if consumer.is_some() { &metric::CONSUMER_ENERGY } else { &metric::HW_ENERGY };
        let metric = rig.registry.metric(metric).unwrap();
        let spec = SeriesSpec::new(metric, Resource::package(0), Timestamp(100));
        rig.registry.open(SeriesSpec { domain: Some(Arc::new(domain)), consumer: consumer.cloned(), ..spec })
    }

    #[test]
    fn only_the_commands_processes_are_named_and_all_joules_are_there() {
        let rig = Rig::new();
        let history = SharedHistory::default();
        let mut writer =
            WithHistory::new(Nothing, Some(history.clone()), rig.registry.clone(), Timestamp(100));
        let [own, secret] = [process("7", "make"), process("8", "secret")];
        let idle = Arc::new(Consumer::closing(ConsumerKind::Idle));
        let unit = Arc::new(Consumer::new(
            Identity { kind: ConsumerKind::Unit, id: "u".into(), start_unix_nano: 0 },
            None,
            Vec::new(),
        ));
        let ids = [None, Some(&own), Some(&secret), Some(&idle), Some(&unit)].map(|of| open(&rig, of));
        let mut second = |begin, values: [u64; 5]| {
            let window = wattrace_api::Window::new(Timestamp(begin), Timestamp(begin + 1_000_000_000));
            let points: Vec<_> = ids.into_iter().zip(values).collect();
            writer.apply(&mut rig.batch(window, &points)).unwrap();
        };
        second(100, [1000, 500, 100, 400, 600]);
        lock(&history).reset();
        second(1_000_000_100, [1010, 503, 102, 405, 605]);
        let taken = std::mem::take(&mut *lock(&history));
        let document = taken.into_document("make all", &HashSet::from([own.identity()]));
        let used: Vec<_> = (document.consumers.iter())
            .map(|consumer| (consumer.kind.as_str(), consumer.name.as_str(), consumer.used_uj[0].1[1]))
            .collect();
        let expected = [("process", "make", 3), ("idle", "", 5), ("other", "other processes", 2)];
        assert_eq!(used, expected);
        assert_eq!(document.domains[0].measured_uj, [0, 10]);
        assert!(!serde_json::to_string(&document).unwrap().contains("secret"));
    }
}
