//! The sums of all points. [`State::take`] adds the increments of each batch to domains, processes and
//! closing entries; [`State::update_rates`] turns what came since the last table into rates. `table` shows
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Consumer, ConsumerKind, Domain, Increments, Registry, Role, Series, SeriesId, SeriesMap,
    Timestamp, Usage, Value, Window,
};

use crate::processes::{Consumption, Processes};
use crate::text::name;

/// Microjoules per nanosecond, in watts.
const WATTS: f64 = 1e-6 / 1e-9;

/// A domain's line.
#[derive(Debug)]
pub(crate) struct DomainState {
    pub(crate) domain: Arc<Domain>,
    /// Its name, safe for a terminal.
    pub(crate) name: String,
    /// Whether totals count it: its energy is in no other domain.
    pub(crate) is_counted: bool,
    /// Whether its meter has given a value.
    pub(crate) is_metered: bool,
    /// What the meter counted.
    metered: Consumption,
    /// What of it belongs to a line of the table.
    pub(crate) attributed: Consumption,
    /// Joules that attribution left over.
    pub(crate) residual: f64,
    windows: usize,
}

impl DomainState {
    /// Its energy and power: the meter's, or what was attributed if that is more, as where the console has
    /// not seen the meter's first windows. So header and lines have one sum.
    pub(crate) fn usage(&self) -> Consumption {
        let Self { metered, attributed, .. } = self;
        Consumption {
            microjoules: metered.microjoules.max(attributed.microjoules),
            watts: metered.watts.max(attributed.watts),
            ..Consumption::default()
        }
    }
}

/// The windows since the last [`State::update_rates`] of what advances together: a domain, or a package's CPU
/// time.
#[derive(Debug, Default)]
struct Windows {
    /// The domain's name, or the package's id.
    of: String,
    is_cpu_time: bool,
    end: Timestamp,
    nanos: u64,
    /// Steps of series that ended in them, and their rate.
    ended: u64,
    ended_rate: f64,
}

impl Windows {
    fn add(&mut self, window: Window) {
        if window.end > self.end {
            self.nanos += window.end.0 - window.start.max(self.end).0.min(window.end.0);
            self.end = window.end;
        }
    }
}

/// What a series' increments are added to.
#[derive(Clone, Copy, Debug)]
enum Target {
    Nothing,
    Domain(usize),
    Residual(usize),
    /// Of a consumer, in a domain.
    Energy(ConsumerLine, usize),
    /// The interval of that.
    Uncertainty(ConsumerLine),
    CpuTime(ConsumerLine),
}

/// A consumer's line.
#[derive(Clone, Copy, Debug)]
enum ConsumerLine {
    Process(usize),
    Closing(ConsumerKind),
}

/// A series that is alive.
#[derive(Debug)]
struct LiveSeries {
    target: Target,
    windows: usize,
    increments: Increments,
    /// Steps since the last table, and their rate.
    recent: u64,
    rate: f64,
    /// Of an interval: the square of its last half width, J².
    square: f64,
}

/// Everything that the table shows.
#[derive(Debug)]
pub(crate) struct State {
    registry: Arc<Registry>,
    /// When it was made: what was counted before is not shown.
    since: Timestamp,
    live: SeriesMap<LiveSeries>,
    windows: Vec<Windows>,
    pub(crate) domains: Vec<DomainState>,
    pub(crate) processes: Processes,
    /// `idle`, `irq`, `other` and `unattributed`, as far as they were seen.
    pub(crate) closing: BTreeMap<ConsumerKind, Consumption>,
    /// Rates of processes that ended since the last table.
    pub(crate) ended: Consumption,
    /// Whether energy has intervals.
    pub(crate) has_intervals: bool,
    seen: Option<Window>,
}

impl State {
    /// The state at `since`, before the first point.
    pub(crate) fn new(registry: Arc<Registry>, since: Timestamp) -> Self {
        Self {
            registry,
            since,
            live: SeriesMap::default(),
            windows: Vec::new(),
            domains: Vec::new(),
            processes: Processes::default(),
            closing: BTreeMap::new(),
            ended: Consumption::default(),
            has_intervals: false,
            seen: None,
        }
    }

    /// The time from the first window's start to the last one's end; `None` before the first.
    pub(crate) fn elapsed(&self) -> Option<Duration> {
        self.seen.map(|seen| Duration::from_nanos(seen.nanos()))
    }

    /// Adds a batch's points.
    pub(crate) fn take(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                self.take_point(segment.window, id, value);
            }
        }
        for &id in batch.ended() {
            if let Some(series) = self.live.remove(id) {
                self.end(&series);
            }
        }
    }

    fn take_point(&mut self, window: Window, id: SeriesId, value: Value) {
        if self.live.get(id).is_none() {
            let Some(series) = self.registry.get(id) else { return };
            let (target, windows) = self.target(&series).unwrap_or((Target::Nothing, 0));
            let increments = Increments::new(&series, self.since);
            self.live
                .insert(id, LiveSeries { target, windows, increments, recent: 0, rate: 0.0, square: 0.0 });
        }
        let Some(live) = self.live.get_mut(id) else { return };
        if let Target::Nothing = live.target {
            return;
        }
        let seen = self.seen.get_or_insert(window);
        *seen = Window::new(seen.start.min(window.start), seen.end.max(window.end));
        match live.target {
            Target::Residual(domain) => {
                self.domains[domain].residual += value.gauge();
                return;
            }
            Target::Uncertainty(line) => {
                self.has_intervals = true;
                let square = value.gauge() * value.gauge();
                let before = std::mem::replace(&mut live.square, square);
                self.usage(line, |usage| usage.square = (usage.square + square - before).max(0.0));
                return;
            }
            _ => {}
        }
        self.windows[live.windows].add(window);
        let steps = live.increments.next(window, value);
        live.recent += steps;
        match live.target {
            Target::Nothing | Target::Residual(_) | Target::Uncertainty(_) => {}
            Target::Domain(domain) => {
                self.domains[domain].is_metered = true;
                self.domains[domain].metered.microjoules += steps;
            }
            Target::Energy(line, domain) => {
                self.domains[domain].attributed.microjoules += steps;
                self.usage(line, |usage| usage.microjoules += steps);
            }
            Target::CpuTime(line) => self.usage(line, |usage| usage.cpu_nanos += steps),
        }
    }

    fn usage(&mut self, line: ConsumerLine, change: impl FnOnce(&mut Consumption)) {
        let usage = match line {
            ConsumerLine::Process(row) => self.processes.usage_mut(row),
            ConsumerLine::Closing(kind) => self.closing.get_mut(&kind),
        };
        if let Some(usage) = usage {
            change(usage);
        }
    }

    fn end(&mut self, series: &LiveSeries) {
        if let Target::Energy(line, _) | Target::CpuTime(line) | Target::Uncertainty(line) = series.target {
            self.windows[series.windows].ended += series.recent;
            if let ConsumerLine::Process(row) = line {
                self.processes.end(row);
            }
        }
    }

    /// What `series` is added to, and the number of its windows; `None` if the table doesn't show it.
    fn target(&mut self, series: &Series) -> Option<(Target, usize)> {
        if series.role == Role::Usage(Usage::CpuTime) {
            let line = self.line(series.consumer.as_ref()?)?;
            return Some((Target::CpuTime(line), self.windows(&series.resource.id, true)));
        }
        let (Role::Meter | Role::Energy | Role::Residual | Role::Uncertainty) = series.role else {
            return None;
        };
        let domain = self.domain(series)?;
        let target = match series.role {
            Role::Meter => Target::Domain(domain),
            Role::Residual => Target::Residual(domain),
            Role::Uncertainty if series.counts_in_totals() => {
                Target::Uncertainty(self.line(series.consumer.as_ref()?)?)
            }
            Role::Uncertainty => return None,
            _ if series.counts_in_totals() => Target::Energy(self.line(series.consumer.as_ref()?)?, domain),
            _ => return None,
        };
        Some((target, self.domains[domain].windows))
    }

    /// `None` for groups of processes and parts of them: their energy is in the processes' already.
    fn line(&mut self, consumer: &Arc<Consumer>) -> Option<ConsumerLine> {
        match consumer.kind() {
            ConsumerKind::Process => Some(ConsumerLine::Process(self.processes.begin(consumer))),
            kind @ (ConsumerKind::Idle
            | ConsumerKind::Irq
            | ConsumerKind::Other
            | ConsumerKind::Unattributed) => {
                self.closing.entry(kind).or_default();
                Some(ConsumerLine::Closing(kind))
            }
            _ => None,
        }
    }

    fn domain(&mut self, series: &Series) -> Option<usize> {
        let domain = series.domain.as_ref()?;
        if let Some(known) = self.domains.iter().position(|d| d.domain.name == domain.name) {
            return Some(known);
        }
        let windows = self.windows(&domain.name, false);
        self.domains.push(DomainState {
            name: name(&domain.name),
            is_counted: series.counts_in_totals(),
            is_metered: false,
            metered: Consumption::default(),
            attributed: Consumption::default(),
            residual: 0.0,
            domain: domain.clone(),
            windows,
        });
        Some(self.domains.len() - 1)
    }

    fn windows(&mut self, of: &str, is_cpu_time: bool) -> usize {
        if let Some(known) = self.windows.iter().position(|w| w.is_cpu_time == is_cpu_time && w.of == of) {
            return known;
        }
        self.windows.push(Windows { of: of.to_string(), is_cpu_time, ..Windows::default() });
        self.windows.len() - 1
    }

    /// Sets all rates to those over the windows since the last call. Where no window has ended since, rates
    /// stay.
    pub(crate) fn update_rates(&mut self) {
        self.processes.refresh();
        for usage in self.closing.values_mut() {
            *usage = Consumption { watts: 0.0, cpus: 0.0, ..*usage };
        }
        self.domains.iter_mut().for_each(|domain| domain.attributed.watts = 0.0);
        for (_, live) in self.live.iter_mut() {
            let nanos = self.windows.get(live.windows).map_or(0, |w| w.nanos);
            if nanos > 0 {
                live.rate = live.recent as f64 / nanos as f64;
                live.recent = 0;
            }
            let (line, rate) = match live.target {
                Target::Nothing | Target::Residual(_) | Target::Uncertainty(_) => continue,
                Target::Domain(domain) => {
                    self.domains[domain].metered.watts = live.rate * WATTS;
                    continue;
                }
                Target::Energy(line, domain) => {
                    self.domains[domain].attributed.watts += live.rate * WATTS;
                    (line, Consumption { watts: live.rate * WATTS, ..Consumption::default() })
                }
                Target::CpuTime(line) => (line, Consumption { cpus: live.rate, ..Consumption::default() }),
            };
            let usage = match line {
                ConsumerLine::Process(row) => self.processes.usage_mut(row),
                ConsumerLine::Closing(kind) => self.closing.get_mut(&kind),
            };
            if let Some(usage) = usage {
                *usage += rate;
            }
        }
        self.ended = Consumption::default();
        for (at, windows) in self.windows.iter_mut().enumerate() {
            if windows.nanos > 0 {
                windows.ended_rate = windows.ended as f64 / windows.nanos as f64;
                (windows.ended, windows.nanos) = (0, 0);
            }
            match windows.is_cpu_time {
                true => self.ended.cpus += windows.ended_rate,
                false => {
                    let watts = windows.ended_rate * WATTS;
                    self.ended.watts += watts;
                    let domain = self.domains.iter_mut().find(|domain| domain.windows == at);
                    domain.into_iter().for_each(|domain| domain.attributed.watts += watts);
                }
            }
        }
    }
}
