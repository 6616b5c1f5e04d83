//! What the points add up to. [`State::take`] sums steps per domain, process and closing entry as batches
//! come; [`State::settle`] turns what came since the last table into rates. `table` shows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Consumer, ConsumerKind, Domain, Registry, ResourceKind, Series, SeriesId, SeriesMap, Timestamp,
    Value, Window, metric,
};

use crate::processes::{Processes, Usage};
use crate::text::harmless;

/// Microjoules per nanosecond, in watts.
const WATTS: f64 = 1e-6 / 1e-9;

/// A domain's line.
#[derive(Debug)]
pub(crate) struct DomainState {
    pub(crate) domain: Arc<Domain>,
    /// Its name, harmless.
    pub(crate) name: String,
    /// Whether its energy is in no other domain, and so belongs into sums.
    pub(crate) is_counted: bool,
    /// Whether its meter has spoken.
    pub(crate) is_metered: bool,
    /// What the meter counted.
    pub(crate) usage: Usage,
    /// Joules that closing the books left over.
    pub(crate) residual: f64,
    windows: usize,
}

/// The windows since the last [`State::settle`] of what advances together: a domain, or a package's CPU time.
#[derive(Debug, Default)]
struct Windows {
    /// Whose: the domain's name, or the package's id.
    of: String,
    is_cpu_time: bool,
    end: Timestamp,
    nanos: u64,
    /// Steps of series that ended in them, and their rate.
    departed: u64,
    departed_rate: f64,
}

impl Windows {
    fn add(&mut self, window: Window) {
        if window.end > self.end {
            self.nanos += window.end.0 - window.start.max(self.end).0.min(window.end.0);
            self.end = window.end;
        }
    }
}

/// Where a series' steps go.
#[derive(Clone, Copy, Debug)]
enum Feed {
    Nothing,
    Domain(usize),
    Residual(usize),
    Energy(Who),
    CpuTime(Who),
}

#[derive(Clone, Copy, Debug)]
enum Who {
    Process(usize),
    Closing(ConsumerKind),
}

#[derive(Debug)]
struct Meter {
    feed: Feed,
    windows: usize,
    last: u64,
    recent: u64,
    rate: f64,
}

/// Everything that the table shows.
#[derive(Debug)]
pub(crate) struct State {
    registry: Arc<Registry>,
    meters: SeriesMap<Meter>,
    windows: Vec<Windows>,
    pub(crate) domains: Vec<DomainState>,
    pub(crate) processes: Processes,
    /// `idle`, `irq`, `other` and `unattributed`, as far as they were seen.
    pub(crate) closing: BTreeMap<ConsumerKind, Usage>,
    /// Rates of processes that ended since the last table.
    pub(crate) departed: Usage,
    seen: Option<Window>,
}

impl State {
    /// Nothing yet.
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            meters: SeriesMap::default(),
            windows: Vec::new(),
            domains: Vec::new(),
            processes: Processes::default(),
            closing: BTreeMap::new(),
            departed: Usage::default(),
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
            if let Some(meter) = self.meters.remove(id) {
                self.end(&meter);
            }
        }
    }

    fn take_point(&mut self, window: Window, id: SeriesId, value: Value) {
        if self.meters.get(id).is_none() {
            let Some(series) = self.registry.get(id) else { return };
            let meter = self.meter(&series);
            self.meters.insert(id, meter);
        }
        let Some(meter) = self.meters.get_mut(id) else { return };
        if let Feed::Nothing = meter.feed {
            return;
        }
        let seen = self.seen.get_or_insert(window);
        *seen = Window::new(seen.start.min(window.start), seen.end.max(window.end));
        if let Feed::Residual(domain) = meter.feed {
            self.domains[domain].residual += value.gauge();
            return;
        }
        self.windows[meter.windows].add(window);
        let steps = value.steps().saturating_sub(meter.last);
        meter.last += steps;
        meter.recent += steps;
        match meter.feed {
            Feed::Nothing | Feed::Residual(_) => {}
            Feed::Domain(domain) => {
                self.domains[domain].is_metered = true;
                self.domains[domain].usage.microjoules += steps;
            }
            Feed::Energy(who) => self.usage(who, |usage| usage.microjoules += steps),
            Feed::CpuTime(who) => self.usage(who, |usage| usage.cpu_nanos += steps),
        }
    }

    fn usage(&mut self, who: Who, change: impl FnOnce(&mut Usage)) {
        let usage = match who {
            Who::Process(row) => self.processes.usage_mut(row),
            Who::Closing(kind) => self.closing.get_mut(&kind),
        };
        if let Some(usage) = usage {
            change(usage);
        }
    }

    fn end(&mut self, meter: &Meter) {
        if let Feed::Energy(who) | Feed::CpuTime(who) = meter.feed {
            self.windows[meter.windows].departed += meter.recent;
            if let Who::Process(row) = who {
                self.processes.end(row);
            }
        }
    }

    fn meter(&mut self, series: &Series) -> Meter {
        let (feed, windows) = self.feed(series).unwrap_or((Feed::Nothing, 0));
        Meter { feed, windows, last: 0, recent: 0, rate: 0.0 }
    }

    fn feed(&mut self, series: &Series) -> Option<(Feed, usize)> {
        let name = &series.metric.name;
        if *name == metric::CONSUMER_CPU_TIME.name {
            let who = self.who(series.consumer.as_ref()?)?;
            return Some((Feed::CpuTime(who), self.windows(&series.resource.id, true)));
        }
        let is_hardware = *name == metric::HW_ENERGY.name || *name == metric::HW_HOST_ENERGY.name;
        let is_consumer = *name == metric::CONSUMER_ENERGY.name;
        if !is_hardware && !is_consumer && *name != metric::DOMAIN_RESIDUAL.name {
            return None;
        }
        let domain = self.domain(series.domain.as_ref()?, &series.resource.kind);
        let DomainState { is_counted, windows, .. } = self.domains[domain];
        let feed = if is_hardware {
            Feed::Domain(domain)
        } else if !is_consumer {
            Feed::Residual(domain)
        } else if is_counted {
            Feed::Energy(self.who(series.consumer.as_ref()?)?)
        } else {
            return None;
        };
        Some((feed, windows))
    }

    /// `None` for groups of processes and parts of them: their energy is in the processes' already.
    fn who(&mut self, consumer: &Arc<Consumer>) -> Option<Who> {
        match consumer.kind() {
            ConsumerKind::Process => Some(Who::Process(self.processes.begin(consumer))),
            kind @ (ConsumerKind::Idle
            | ConsumerKind::Irq
            | ConsumerKind::Other
            | ConsumerKind::Unattributed) => {
                self.closing.entry(kind).or_default();
                Some(Who::Closing(kind))
            }
            _ => None,
        }
    }

    fn domain(&mut self, domain: &Arc<Domain>, kind: &ResourceKind) -> usize {
        if let Some(known) = self.domains.iter().position(|d| d.domain.name == domain.name) {
            return known;
        }
        let is_of_host = matches!(kind, ResourceKind::Psys | ResourceKind::Host);
        let windows = self.windows(&domain.name, false);
        self.domains.push(DomainState {
            name: harmless(&domain.name),
            is_counted: domain.within.is_none() && !is_of_host,
            is_metered: false,
            usage: Usage::default(),
            residual: 0.0,
            domain: domain.clone(),
            windows,
        });
        self.domains.len() - 1
    }

    fn windows(&mut self, of: &str, is_cpu_time: bool) -> usize {
        if let Some(known) = self.windows.iter().position(|w| w.is_cpu_time == is_cpu_time && w.of == of) {
            return known;
        }
        self.windows.push(Windows { of: of.to_string(), is_cpu_time, ..Windows::default() });
        self.windows.len() - 1
    }

    /// Sets all rates to those over the windows since the last call. Where none has closed since, rates stay.
    pub(crate) fn settle(&mut self) {
        self.processes.refresh();
        for usage in self.closing.values_mut() {
            *usage = Usage { watts: 0.0, cpus: 0.0, ..*usage };
        }
        for (_, meter) in self.meters.iter_mut() {
            let nanos = self.windows.get(meter.windows).map_or(0, |w| w.nanos);
            if nanos > 0 {
                meter.rate = meter.recent as f64 / nanos as f64;
                meter.recent = 0;
            }
            let (who, rate) = match meter.feed {
                Feed::Nothing | Feed::Residual(_) => continue,
                Feed::Domain(domain) => {
                    self.domains[domain].usage.watts = meter.rate * WATTS;
                    continue;
                }
                Feed::Energy(who) => (who, Usage { watts: meter.rate * WATTS, ..Usage::default() }),
                Feed::CpuTime(who) => (who, Usage { cpus: meter.rate, ..Usage::default() }),
            };
            let usage = match who {
                Who::Process(row) => self.processes.usage_mut(row),
                Who::Closing(kind) => self.closing.get_mut(&kind),
            };
            if let Some(usage) = usage {
                *usage += rate;
            }
        }
        self.departed = Usage::default();
        for windows in &mut self.windows {
            if windows.nanos > 0 {
                windows.departed_rate = windows.departed as f64 / windows.nanos as f64;
                (windows.departed, windows.nanos) = (0, 0);
            }
            match windows.is_cpu_time {
                true => self.departed.cpus += windows.departed_rate,
                false => self.departed.watts += windows.departed_rate * WATTS,
            }
        }
    }
}
