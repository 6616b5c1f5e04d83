//! The pipeline element: puts points into cells, and closes windows.
//!
//! A point counts in the window in which the middle of its own window lies: a reading that is taken a little
//! after the full ten seconds is of those ten seconds. A window is closed when points have been seen that end
//! `lateness` after it; results cover what their points covered. What comes later still counts in the oldest
//! window that is open, so that no increase is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use tracing::warn;
use wattrace_api::{Batch, Error, Kind, Registry, Series, Timestamp, Transform, Window};
use wattrace_select::Decisions;

use crate::cell::Cell;
use crate::config::Rule;
use crate::group::Key;

/// The element.
pub(crate) struct Transformer {
    width: u64,
    lateness: u64,
    cells: Cells,
    slots: Decisions<Slot>,
    drops: bool,
    /// The number of the oldest open window; `None` before the first point.
    oldest: Option<u64>,
    /// What the points of the open windows cover, by the last bit of the window's number.
    covered: [Option<Window>; 2],
    /// End of the latest point.
    newest: Timestamp,
    /// The results being made; empty between calls.
    out: Batch,
}

/// What a series goes into.
#[derive(Debug)]
struct Slot {
    last: u64,
    /// Of a counter.
    step: Option<f64>,
    cells: Vec<usize>,
    keep: bool,
}

/// All cells, with what is needed to make one.
struct Cells {
    rules: Arc<[Rule]>,
    registry: Arc<Registry>,
    cells: Slab<(Cell, Option<f64>)>,
    groups: HashMap<Key, usize>,
    warned: bool,
}

impl Transformer {
    pub(crate) fn new(
        window: Duration,
        lateness: Duration,
        rules: Arc<[Rule]>,
        registry: Arc<Registry>,
    ) -> Self {
        let may_change = rules.iter().any(|rule| rule.selector.may_change() || rule.by.may_change());
        Self {
            width: window.as_nanos() as u64,
            lateness: lateness.min(window).as_nanos() as u64,
            slots: Decisions::new(registry.clone(), may_change),
            drops: rules.iter().any(|rule| !rule.keep),
            cells: Cells { rules, registry, cells: Slab::new(), groups: HashMap::new(), warned: false },
            oldest: None,
            covered: [None; 2],
            newest: Timestamp(0),
            out: Batch::default(),
        }
    }

    /// The number of the open window that points of `window` count in.
    fn place(&mut self, window: Window) -> u64 {
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
            self.cells.close(closing, &mut self.out);
        }
        self.oldest = Some(oldest.max(number));
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        for segment in batch.segments().filter(|segment| !segment.series.is_empty()) {
            // Every point tells the time, selected or not: what has gone silent is told all the same.
            self.newest = self.newest.max(segment.window.end);
            let (place, nanos) = (self.place(segment.window), segment.window.nanos());
            let Self { slots, cells, covered, .. } = self;
            let mut counted = false;
            for (id, value) in segment.points() {
                let Some(slot) = slots.of(id, |series, before| cells.slot(series, before)) else { continue };
                let increase = value.steps().saturating_sub(std::mem::replace(&mut slot.last, value.steps()));
                for &cell in &slot.cells {
                    let Some((cell, _)) = cells.cells.get_mut(cell) else { continue };
                    counted = true;
                    match slot.step {
                        Some(step) => cell.increase(place, increase, step, nanos),
                        None => cell.value(place, value.gauge()),
                    }
                }
            }
            if counted {
                let covered = &mut covered[(place & 1) as usize];
                *covered = Some(covered.map_or(segment.window, |covered| hull(covered, segment.window)));
            }
        }
        if self.drops {
            let slots = &self.slots;
            batch.retain(|id, _| slots.get(id).is_none_or(|slot| slot.keep));
        }
        for &id in batch.ended() {
            for cell in self.slots.remove(id).map(|slot| slot.cells).unwrap_or_default() {
                self.cells.let_go(cell);
            }
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

impl Cells {
    /// What `series` goes into from now on.
    fn slot(&mut self, series: &Arc<Series>, before: Option<Slot>) -> Slot {
        let rules = self.rules.clone();
        let step = (series.metric.kind == Kind::Counter).then_some(series.metric.step);
        let last = before.as_ref().map_or(0, |slot| slot.last);
        let old = before.map(|slot| slot.cells).unwrap_or_default();
        let mut slot = Slot { last, step, cells: Vec::new(), keep: true };
        let mut matched = false;
        for (number, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.selector.matches(series)) {
            slot.keep = rule.keep || (slot.keep && matched);
            matched = true;
            if rule.by.counts_twice(series) {
                continue;
            }
            let cell = if rule.by.is_single() {
                let mine = |at: &&usize| {
                    self.cells.get(**at).is_some_and(|(c, _)| c.rule == number && c.key.is_none())
                };
                old.iter().find(mine).copied().or_else(|| self.add(number, rule, None, series))
            } else {
                let key = rule.by.key(number, series);
                let known = self.groups.get(&key).copied();
                known.or_else(|| self.add(number, rule, Some(key), series))
            };
            if let Some(cell) = cell {
                self.cells[cell].0.holders += 1;
                slot.cells.push(cell);
            }
        }
        old.into_iter().for_each(|cell| self.let_go(cell));
        slot
    }

    /// Makes a cell. `None`: a result's name is taken by another metric.
    fn add(&mut self, number: usize, rule: &Rule, key: Option<Key>, series: &Series) -> Option<usize> {
        let declare = |function: &crate::function::Function| {
            let metric = function.metric(&series.metric);
            self.registry.metric(&metric).map(|id| rule.by.spec(id, series))
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
        let cell = Cell::new(number, key.clone(), &rule.functions, results);
        let at = self.cells.insert((cell, step));
        if let Some(key) = key {
            self.groups.insert(key, at);
        }
        Some(at)
    }

    fn let_go(&mut self, cell: usize) {
        if let Some((cell, _)) = self.cells.get_mut(cell) {
            cell.holders -= 1;
        }
    }

    /// Tells what window `number` came to, and ends what is over.
    fn close(&mut self, number: u64, out: &mut Batch) {
        let Self { rules, cells, groups, .. } = self;
        cells.retain(|_, (cell, step)| {
            let functions = rules.get(cell.rule).map_or(&[][..], |rule| &rule.functions);
            cell.close(number, functions, *step, out);
            if cell.is_over() {
                cell.results.iter().for_each(|&result| out.end(result));
                if let Some(key) = &cell.key {
                    groups.remove(key);
                }
            }
            !cell.is_over()
        });
    }
}

fn hull(a: Window, b: Window) -> Window {
    Window::new(a.start.min(b.start), a.end.max(b.end))
}

#[cfg(test)]
mod tests;
