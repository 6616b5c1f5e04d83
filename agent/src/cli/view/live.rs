//! The history of a running agent, from the moment at which this command subscribed to its points. A thread
//! reads its messages; the page asks for what there is every few seconds.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use wattrace_page::{About, ConsumerInfo, Document, History, Source, Window, summarise};
use wattrace_viewer::{ConsumerDescription, Kind, Message, Points, Quantity, SeriesDescription};

use crate::cli::failure::Failure;
use crate::control::subscription::Subscription;

/// A running agent.
pub(super) struct Live {
    title: String,
    state: Arc<Mutex<State>>,
}

/// How often a page looks for more.
const REFRESH_MS: u64 = 2000;
/// How much of the past is kept.
const PAST: u64 = 3_600_000_000_000;

impl Live {
    /// Subscribes to the agent that listens on `socket`.
    ///
    /// # Errors
    /// There is none, or it refuses.
    pub(super) fn open(socket: &Path) -> Result<Self, Failure> {
        let mut subscription = Subscription::open(socket).map_err(|problem| {
            Failure::new(format!("{}; or name a database of the plugin sqlite to look at", problem.message))
        })?;
        let state = Arc::new(Mutex::new(State::default()));
        let title = subscription.agent().map_or("agent".to_owned(), |agent| format!("agent {}", agent.pid));
        let shared = state.clone();
        let read = move || {
            let ended = loop {
                match subscription.next() {
                    Ok(Some(message)) => lock(&shared).take(&message),
                    Ok(None) => break "the agent has ended".to_owned(),
                    Err(problem) => break problem.message,
                }
            };
            eprintln!("wattrace: {ended}; the page keeps what it has");
            lock(&shared).has_ended = true;
        };
        let started = thread::Builder::new().name("wattrace-feed".into()).spawn(read);
        started.map_err(|e| Failure::new(format!("cannot start a thread: {e}")))?;
        Ok(Self { title, state })
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source for Live {
    fn document(&self, _: Option<[u64; 2]>) -> Result<Document, String> {
        let state = lock(&self.state);
        let about = About {
            title: self.title.clone(),
            refresh_ms: (!state.has_ended).then_some(REFRESH_MS),
            rest: Some("not seen yet".to_owned()),
            ..About::default()
        };
        Ok(summarise(&state.history, &about))
    }
}

/// What the messages say.
#[derive(Default)]
struct State {
    history: History,
    /// Consumers of the history by the agent's numbers, and by what they are: after lost points, everything
    /// has another number.
    consumers: HashMap<u64, usize>,
    known: HashMap<(Kind, String, u64), usize>,
    /// By name: the index, and from when on its meter's readings are known; `None`: there was no reading yet.
    domains: HashMap<String, (usize, Option<u64>)>,
    series: HashMap<u32, OpenSeries>,
    /// When the oldest was forgotten the last time.
    tidied: u64,
    has_ended: bool,
}

/// A series that has not ended. Its consumer may use energy any time, whatever the series is of.
struct OpenSeries {
    /// `None`: a meter's.
    consumer: Option<usize>,
    /// `None`: of something else than energy.
    counter: Option<Counter>,
}

struct Counter {
    domain: String,
    start: u64,
    last: Option<u64>,
}

impl State {
    fn take(&mut self, message: &Message) {
        if message.reset {
            self.series.clear();
            self.consumers.clear();
            self.domains.values_mut().for_each(|(_, since)| *since = None);
        }
        message.consumers.iter().for_each(|consumer| self.describe(consumer));
        for domain in &message.domains {
            let index = self.history.domain(&domain.name, &domain.origin, domain.counted);
            self.domains.entry(domain.name.clone()).or_insert((index, None));
        }
        message.series.iter().for_each(|series| self.open(series));
        message.windows.iter().for_each(|points| self.add(points));
        for id in &message.ended {
            self.series.remove(id);
        }
        let now = message.windows.iter().map(|points| points.end).max().unwrap_or(0);
        if now > self.tidied + PAST / 60 {
            self.forget(now.saturating_sub(PAST));
            self.tidied = now;
        }
    }

    fn describe(&mut self, consumer: &ConsumerDescription) {
        let is_closing = consumer.kind.is_closing();
        if !is_closing && consumer.id.is_empty() {
            // What is in no group is what its groups leave over, which the page computes.
            return;
        }
        let key = (consumer.kind, consumer.id.clone(), consumer.start_unix_nano);
        let place = *self.known.entry(key).or_insert_with(|| self.history.consumer(ConsumerInfo::default()));
        self.consumers.insert(consumer.number, place);
        if let Some(info) = self.history.info_mut(place) {
            *info = ConsumerInfo {
                kind: consumer.kind.as_str().into(),
                id: consumer.id.clone(),
                name: if is_closing { String::new() } else { consumer.name.clone() },
                start_unix_nano: consumer.start_unix_nano,
                end_unix_nano: None,
                parent: consumer.attributes.get("process.parent_pid").cloned(),
            };
        }
    }

    fn open(&mut self, series: &SeriesDescription) {
        let consumer = series.consumer.and_then(|number| self.consumers.get(&number)).copied();
        let counts = match series.quantity {
            Quantity::Meter => true,
            Quantity::Energy => consumer.is_some(),
            _ => false,
        };
        let domain = series.domain.clone().filter(|_| counts);
        let counter = domain.map(|domain| Counter { domain, start: series.start_unix_nano, last: None });
        self.series.insert(series.id, OpenSeries { consumer, counter });
    }

    fn add(&mut self, points: &Points) {
        let window = Window { begin: points.start, end: points.end };
        for (id, &value) in points.ids.iter().zip(&points.values) {
            let Some(OpenSeries { consumer, counter: Some(counter) }) = self.series.get_mut(id) else {
                continue;
            };
            let Some((domain, since)) = self.domains.get_mut(&counter.domain) else { continue };
            let steps = match counter.last.replace(value) {
                Some(last) => value.saturating_sub(last),
                // All of it belongs to this window.
                None if counter.start >= window.begin => value,
                None => {
                    if consumer.is_none() {
                        *since = Some(window.end);
                    }
                    continue;
                }
            };
            match *consumer {
                None => {
                    since.get_or_insert(window.begin);
                    self.history.measured(*domain, window, steps);
                }
                Some(consumer) if since.is_some_and(|since| since < window.end) => {
                    self.history.used(consumer, *domain, window, steps);
                }
                // The meter was not seen in this window.
                Some(_) => {}
            }
        }
    }

    /// Forgets what is older, and the consumers that have no series any more and are in nothing younger.
    fn forget(&mut self, time: u64) {
        let living: HashSet<usize> = self.series.values().filter_map(|series| series.consumer).collect();
        let places = self.history.forget_before(time, |place| living.contains(&place));
        let place = |old: usize| places.get(old).copied().flatten();
        self.known.retain(|_, at| place(*at).map(|new| *at = new).is_some());
        self.consumers.retain(|_, at| place(*at).map(|new| *at = new).is_some());
        for series in self.series.values_mut() {
            series.consumer = series.consumer.and_then(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wattrace_viewer::DomainDescription;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// In seconds since the Unix epoch.
    const BEGIN: u64 = 1_800_000_000;

    fn consumer(number: u64, kind: Kind, id: &str) -> ConsumerDescription {
        ConsumerDescription {
            number,
            kind,
            id: id.into(),
            start_unix_nano: number,
            name: format!("name {id}"),
            root: None,
            attributes: BTreeMap::new(),
        }
    }

    fn series(id: u32, consumer: Option<u64>, start: u64) -> SeriesDescription {
        let quantity = if consumer.is_some() { Quantity::Energy } else { Quantity::Meter };
        let start_unix_nano = (BEGIN + start) * SECOND;
        SeriesDescription { id, quantity, consumer, domain: Some("package-0".into()), start_unix_nano }
    }

    fn points(end: u64, values: &[(u32, u64)]) -> Points {
        let mut points = Points::of((BEGIN + end - 1) * SECOND, (BEGIN + end) * SECOND);
        values.iter().for_each(|&(id, value)| points.count(id, value));
        points
    }

    fn descriptions() -> Message {
        Message {
            reset: true,
            consumers: vec![
                consumer(1, Kind::Process, "7"),
                consumer(2, Kind::Process, "8"),
                consumer(3, Kind::Idle, ""),
            ],
            domains: vec![DomainDescription {
                name: "package-0".into(),
                origin: "simulated".into(),
                counted: true,
            }],
            series: vec![
                series(0, None, 0),
                series(1, Some(1), 0),
                series(2, Some(2), 102),
                series(3, Some(3), 0),
            ],
            ..Message::default()
        }
    }

    fn total(state: State) -> (u64, BTreeMap<String, u64>) {
        let rest = Some("not seen yet".to_owned());
        let document = summarise(&state.history, &About { rest, ..About::default() });
        let sum = |amounts: &[u64]| amounts.chunks(2).map(|pair| pair[1]).sum::<u64>();
        let name = |kind: &str, id: &str| if id.is_empty() { kind.to_owned() } else { id.to_owned() };
        let used = document.consumers.iter();
        let used = used.map(|of| (name(&of.kind, &of.id), of.used_uj.iter().map(|(_, all)| sum(all)).sum()));
        (sum(&document.domains[0].measured_uj), used.collect())
    }

    #[test]
    fn a_viewer_that_joins_counts_what_it_sees_and_the_rest_is_not_seen_yet() {
        let mut state = State::default();
        state.take(&Message { windows: vec![points(101, &[(0, 5_000), (3, 900)])], ..descriptions() });
        state.take(&Message { windows: vec![points(102, &[(0, 5_100), (3, 930)])], ..Message::default() });
        // 7 was there before: only what it uses from now on is known. 8 is new.
        let window = points(103, &[(0, 5_200), (1, 70_000), (2, 25), (3, 950)]);
        state.take(&Message { windows: vec![window], ended: vec![2], ..Message::default() });
        let window = points(104, &[(0, 5_300), (1, 70_040), (3, 1_010)]);
        state.take(&Message { windows: vec![window], ..Message::default() });
        let expected = [("7", 40), ("8", 25), ("idle", 30 + 20 + 60), ("other", 70 + 55)];
        let expected = expected.map(|(name, microjoules)| (name.to_owned(), microjoules));
        assert_eq!(total(state), (300, BTreeMap::from(expected)));
    }

    #[test]
    fn a_window_whose_meter_was_not_seen_is_not_counted() {
        let mut state = State::default();
        // 8 is new in a window that is divided when its reading has passed already.
        state.take(&Message { windows: vec![points(103, &[(2, 25), (3, 900)])], ..descriptions() });
        state.take(&Message {
            windows: vec![points(104, &[(0, 5_000), (2, 60), (3, 905)])],
            ..Message::default()
        });
        assert_eq!(total(state), (0, BTreeMap::new()));
        // The same after lost points, and before them all is known.
        let mut state = State::default();
        state
            .take(&Message { series: vec![series(0, None, 102), series(2, Some(2), 102)], ..descriptions() });
        state.take(&Message { windows: vec![points(103, &[(0, 70), (2, 70)])], ..Message::default() });
        let mut again = descriptions();
        again.series[2].start_unix_nano = series(2, None, 104).start_unix_nano;
        state.take(&Message { windows: vec![points(105, &[(2, 30)])], ..again });
        assert_eq!(total(state), (70, BTreeMap::from([("8".to_owned(), 70)])));
    }

    #[test]
    fn a_consumer_that_is_described_long_before_its_energy_is_not_forgotten() {
        let mut state = State::default();
        let mut first = descriptions();
        let energy = first.series.remove(1);
        let cpu_time =
            SeriesDescription { id: 7, quantity: Quantity::CpuTime, domain: None, ..energy.clone() };
        first.series.push(cpu_time);
        // With the first window, what is old is forgotten.
        state.take(&Message { windows: vec![points(101, &[(0, 5_000), (7, 9)])], ..first });
        let window = points(102, &[(0, 5_300), (1, 300)]);
        let late = SeriesDescription { start_unix_nano: (BEGIN + 101) * SECOND, ..energy };
        state.take(&Message { series: vec![late], windows: vec![window], ..Message::default() });
        assert_eq!(total(state), (300, BTreeMap::from([("7".to_owned(), 300)])));
    }

    #[test]
    fn after_lost_points_consumers_are_the_same_and_the_oldest_is_forgotten_in_time() {
        let mut state = State::default();
        state.take(&descriptions());
        state.take(&Message {
            windows: vec![points(1, &[(0, 10), (1, 10)]), points(2, &[(0, 30), (1, 30)])],
            ..Message::default()
        });
        let mut again = descriptions();
        again.consumers[0].number = 9;
        again.consumers[0].start_unix_nano = 1;
        again.series[1].consumer = Some(9);
        state.take(&again);
        state.take(&Message {
            windows: vec![points(4000, &[(0, 90), (1, 60)]), points(4001, &[(0, 95), (1, 65)])],
            ..Message::default()
        });
        assert_eq!(state.history_of_processes(), 2, "the same after a reset, and 8, which lives");
        let (measured, used) = total(state);
        assert_eq!((measured, used.get("7")), (5, Some(&5)));
    }

    impl State {
        fn history_of_processes(&self) -> usize {
            self.known.keys().filter(|(kind, ..)| *kind == Kind::Process).count()
        }
    }
}
