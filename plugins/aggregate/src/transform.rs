//! The pipeline element: adds points to accumulators, and closes windows.
//!
//! A point counts in the window that contains the middle of the point's own window: a reading taken a little
//! after the full ten seconds still belongs to those ten seconds. A window is closed when a point has been
//! seen that ends `lateness` after it. Results cover what their points covered. A point for a closed window
//! counts in the oldest open one, so that no increment is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tracing::warn;
use wattrace_api::{Batch, Error, Increments, Kind, Registry, Series, Timestamp, Transform, Window};
use wattrace_select::Decisions;
use wattrace_select::derived::derived_start;

use crate::accumulator::Accumulator;
use crate::config::Rule;
use crate::function::Function;
use crate::group::GroupKey;

/// The element.
pub(crate) struct Transformer {
    width: u64,
    lateness: u64,
    accumulators: Accumulators,
    series: Decisions<SeriesState>,
    drops: bool,
    /// The number of the oldest open window; `None` before the first point.
    oldest: Option<u64>,
    /// What the points of the open windows cover, indexed by the last bit of the window's number.
    covered: [Option<Window>; 2],
    /// End of the latest point.
    newest: Timestamp,
    /// The results being made; empty between calls.
    out: Batch,
}

/// What is known about an input series.
#[derive(Debug)]
struct SeriesState {
    /// Of a counter; `None`: a gauge.
    increments: Option<Increments>,
    /// The accumulators that it feeds.
    accumulators: Vec<usize>,
    keep: bool,
}

/// All accumulators, and what is needed to make one.
struct Accumulators {
    rules: Arc<[Rule]>,
    registry: Arc<Registry>,
    /// When the transform was opened.
    since: Timestamp,
    all: Slab<Accumulator>,
    groups: HashMap<GroupKey, usize>,
    warned: bool,
}

impl Transformer {
    /// `since` is the time of opening: what counters counted before belongs to no window.
    pub(crate) fn new(
        window: Duration,
        lateness: Duration,
        rules: Arc<[Rule]>,
        registry: Arc<Registry>,
        since: Timestamp,
    ) -> Self {
        let may_change = rules.iter().any(|rule| rule.selector.may_change() || rule.by.may_change());
        let drops = rules.iter().any(|rule| !rule.keep);
        let series = Decisions::new(registry.clone(), may_change);
        let (all, groups) = (Slab::new(), HashMap::new());
        Self {
            width: window.as_nanos() as u64,
            lateness: lateness.min(window).as_nanos() as u64,
            accumulators: Accumulators { rules, registry, since, all, groups, warned: false },
            series,
            drops,
            oldest: None,
            covered: [None; 2],
            newest: Timestamp(0),
            out: Batch::default(),
        }
    }

    /// The number of the open window in which points of `window` count. Closes windows to open it.
    fn window_number(&mut self, window: Window) -> u64 {
        let middle = window.start.0 + window.nanos() / 2;
        let number = middle / self.width;
        let oldest = *self.oldest.get_or_insert(number);
        if number > oldest + 1 {
            self.close_before(number - 1);
        }
        number.max(self.oldest.unwrap_or(number))
    }

    /// Closes all windows with a smaller number.
    fn close_before(&mut self, number: u64) {
        let Some(oldest) = self.oldest else { return };
        for closing in oldest..number.min(oldest + 2) {
            if let Some(covered) = self.covered[(closing & 1) as usize].take() {
                self.out.begin(covered);
            }
            self.accumulators.close(closing, &mut self.out);
        }
        self.oldest = Some(oldest.max(number));
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        for segment in batch.segments().filter(|segment| !segment.series.is_empty()) {
            // Every point advances the time, selected or not, so that windows of silent series close too.
            self.newest = self.newest.max(segment.window.end);
            let (number, window) = (self.window_number(segment.window), segment.window);
            let Self { series, accumulators, covered, .. } = self;
            let mut counted = false;
            for (id, value) in segment.points() {
                let decide = |series: &Arc<Series>, before| accumulators.assign(series, before, window);
                let Some(state) = series.of(id, decide) else { continue };
                let increment = match &mut state.increments {
                    Some(increments) => match increments.checked_next(window, value) {
                        // It only sets the reference: a rate of zero would be made up.
                        None => continue,
                        steps => steps,
                    },
                    None => None,
                };
                for &at in &state.accumulators {
                    let Some(accumulator) = accumulators.all.get_mut(at) else { continue };
                    counted = true;
                    match increment {
                        Some(steps) => accumulator.add_increment(number, steps, window.nanos()),
                        None => accumulator.add_value(number, value.gauge()),
                    }
                }
            }
            if counted {
                let covered = &mut covered[(number & 1) as usize];
                *covered = Some(covered.map_or(window, |covered| hull(covered, window)));
            }
        }
        if self.drops {
            let series = &self.series;
            batch.retain(|id, _| series.get(id).is_none_or(|state| state.keep));
        }
        for state in batch.ended().iter().filter_map(|&id| self.series.remove(id)) {
            state.accumulators.into_iter().for_each(|at| self.accumulators.release(at));
        }
        self.close_before(self.newest.0.saturating_sub(self.lateness) / self.width);
        batch.append(&self.out);
        self.out.clear();
        Ok(())
    }

    fn finish(&mut self, out: &mut Batch) -> Result<(), Error> {
        self.close_before(self.oldest.map_or(0, |oldest| oldest + 2));
        out.append(&self.out);
        self.out.clear();
        Ok(())
    }
}

impl Accumulators {
    /// Decides which accumulators `series` feeds from its point over `window` on.
    fn assign(&mut self, series: &Arc<Series>, before: Option<SeriesState>, window: Window) -> SeriesState {
        let rules = self.rules.clone();
        let (increments, start, old) = match before {
            Some(state) => (state.increments, window.start, state.accumulators),
            None => {
                let is_counter = series.metric.kind == Kind::Counter;
                let increments = is_counter.then(|| Increments::new(series, self.since));
                (increments, derived_start(series, self.since, window), Vec::new())
            }
        };
        let mut state = SeriesState { increments, accumulators: Vec::new(), keep: true };
        let mut matched = false;
        for (number, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.selector.matches(series)) {
            state.keep = rule.keep || (state.keep && matched);
            matched = true;
            if rule.by.counts_twice(series) {
                continue;
            }
            let accumulator = if rule.by.is_single() {
                let mine =
                    |at: &&usize| self.all.get(**at).is_some_and(|it| it.rule == number && it.key.is_none());
                old.iter().find(mine).copied().or_else(|| self.add(number, None, series, start))
            } else {
                let key = rule.by.key(number, series);
                let known = self.groups.get(&key).copied();
                known.or_else(|| self.add(number, Some(key), series, start))
            };
            if let Some(at) = accumulator {
                self.all[at].feeds += 1;
                state.accumulators.push(at);
            }
        }
        old.into_iter().for_each(|at| self.release(at));
        state
    }

    /// Adds an accumulator whose results start at `start`. `None`: a result's name is taken by another
    /// metric.
    fn add(
        &mut self,
        number: usize,
        key: Option<GroupKey>,
        series: &Series,
        start: Timestamp,
    ) -> Option<usize> {
        let rule = self.rules.get(number)?;
        let declare = |function: &Function| {
            let metric = function.metric(&series.metric);
            self.registry.metric(&metric).map(|id| rule.by.spec(id, series, start))
        };
        let specs: Vec<_> = match rule.functions.iter().map(declare).collect() {
            Ok(specs) => specs,
            Err(error) => {
                if !std::mem::replace(&mut self.warned, true) {
                    warn!("plugins.aggregate.rules[{number}]: {} is left out: {error}", series.metric.name);
                }
                return None;
            }
        };
        let results = specs.into_iter().map(|spec| self.registry.open(spec)).collect();
        let step = (series.metric.kind == Kind::Counter).then_some(series.metric.step);
        let at = self.all.insert(Accumulator::new(number, key.clone(), &rule.functions, step, results));
        if let Some(key) = key {
            self.groups.insert(key, at);
        }
        Some(at)
    }

    /// A series no longer feeds the accumulator.
    fn release(&mut self, at: usize) {
        if let Some(accumulator) = self.all.get_mut(at) {
            accumulator.feeds -= 1;
        }
    }

    /// Pushes the results of window `number`, and ends those of accumulators that are over.
    fn close(&mut self, number: u64, out: &mut Batch) {
        let Self { rules, all, groups, .. } = self;
        all.retain(|_, accumulator| {
            let functions = rules.get(accumulator.rule).map_or(&[][..], |rule| &rule.functions);
            accumulator.close(number, functions, out);
            if accumulator.is_over() {
                accumulator.results.iter().for_each(|&result| out.end(result));
                if let Some(key) = &accumulator.key {
                    groups.remove(key);
                }
            }
            !accumulator.is_over()
        });
    }
}

/// The shortest window that contains both.
fn hull(a: Window, b: Window) -> Window {
    Window::new(a.start.min(b.start), a.end.max(b.end))
}

#[cfg(test)]
mod tests;
