//! A domain: its meter, and how much of that has been attributed. A meter is read before it is known whose
//! the energy is, so its readings wait until the window that they end has been divided.

use std::collections::VecDeque;

use crate::history::History;
use crate::message::DomainDescription;

/// Readings that wait at most: of a domain that is not divided at 1 kHz, those of four seconds.
const MOST_READINGS: usize = 4096;

/// A meter's reading.
#[derive(Clone, Copy, Debug)]
struct Reading {
    end: u64,
    /// Length of the window that it ends, ns.
    nanos: u64,
    microjoules: u64,
}

/// An energy counter.
#[derive(Clone, Debug)]
pub struct Domain {
    pub(super) name: String,
    pub(super) origin: String,
    pub(super) is_counted: bool,
    /// Open series of its meter; 0: it has gone.
    pub(super) meters: u32,
    readings: VecDeque<Reading>,
    /// Begin and last value of its counter.
    start: u64,
    last: Option<u64>,
    /// What the meter counted up to the last window that has been divided, since it began.
    pub(super) microjoules: u64,
    /// Of the windows that were divided in this frame: energy and length.
    pending: u64,
    covered: u64,
    /// The end of the last window that was divided; 0: none.
    divided_to: u64,
    /// The last frame in which a window was divided, and the power in it.
    pub(super) frame: u32,
    watts: f64,
    /// Power at no load, W.
    pub(super) static_watts: Option<f64>,
    pub(super) history: History,
}

impl Domain {
    pub(super) fn new(description: &DomainDescription) -> Self {
        Self {
            name: description.name.clone(),
            origin: description.origin.clone(),
            is_counted: description.counted,
            meters: 0,
            readings: VecDeque::new(),
            start: 0,
            last: None,
            microjoules: 0,
            pending: 0,
            covered: 0,
            divided_to: 0,
            frame: 0,
            watts: 0.0,
            static_watts: None,
            history: History::default(),
        }
    }

    /// `package-0`, …
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `measured`, `estimated` or `simulated`.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether a total over all domains counts it.
    pub fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// Power in the last frame in which it was known whose its energy is, W; 0 if the meter has gone.
    pub fn watts(&self) -> f64 {
        if self.meters > 0 { self.watts } else { 0.0 }
    }

    /// Energy of which it is known whose it is, in microjoules since the meter began.
    pub fn microjoules(&self) -> u64 {
        self.microjoules
    }

    /// Power at no load, W, if it is known.
    pub fn static_watts(&self) -> Option<f64> {
        self.static_watts
    }

    /// Its power over the last frames.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether its power is part of the total now.
    pub(super) fn counts(&self) -> bool {
        self.is_counted && self.meters > 0
    }

    /// A counter of its meter began at `start`.
    pub(super) fn begin(&mut self, start: u64) {
        if self.start != start {
            self.start = start;
            self.last = None;
        }
        self.meters += 1;
    }

    /// The meter was read at the end of a window.
    pub(super) fn read(&mut self, start: u64, end: u64, microjoules: u64) {
        if self.readings.len() == MOST_READINGS {
            // The next one covers its window, too.
            self.readings.pop_front();
        }
        self.readings.push_back(Reading { end, nanos: end.saturating_sub(start), microjoules });
    }

    /// The window that ends then has been divided: its energy counts. `is_known` is whether the counter began
    /// late enough for its first value to belong to the windows that were seen. Returns `false` if it is not
    /// known what it counted in them.
    pub(super) fn divide(&mut self, window_nanos: u64, end: u64, is_known: impl Fn(u64) -> bool) -> bool {
        if end <= self.divided_to {
            return true;
        }
        // Windows that were lost count, too: their energy comes with the next reading.
        self.covered += if self.divided_to > 0 { end - self.divided_to } else { window_nanos };
        self.divided_to = end;
        let mut known = true;
        while let Some(reading) = self.readings.pop_front_if(|reading| reading.end <= end) {
            known &= self.count(reading.microjoules, &is_known);
        }
        known
    }

    /// Counts what nobody divides: without attribution there are meters alone.
    pub(super) fn count_undivided(&mut self, is_known: impl Fn(u64) -> bool) -> bool {
        if self.divided_to > 0 {
            return true;
        }
        let mut known = true;
        while let Some(reading) = self.readings.pop_front() {
            self.covered += reading.nanos;
            known &= self.count(reading.microjoules, &is_known);
        }
        known
    }

    fn count(&mut self, value: u64, is_known: impl Fn(u64) -> bool) -> bool {
        match self.last.replace(value) {
            Some(last) => {
                let grown = value.saturating_sub(last);
                self.pending += grown;
                self.microjoules += grown;
                true
            }
            None => {
                self.microjoules += value;
                let known = is_known(self.start);
                if known {
                    self.pending += value;
                }
                known
            }
        }
    }

    /// A frame ends. Returns watts per microjoule in it; `None` if no window was divided.
    pub(super) fn end_frame(&mut self, frame: u32) -> Option<f64> {
        let (energy, nanos) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.covered));
        if nanos == 0 {
            return None;
        }
        // 1 µJ/ns is 1 kW.
        let per_microjoule = 1e3 / nanos as f64;
        self.watts = energy as f64 * per_microjoule;
        self.frame = frame;
        self.history.push(frame, self.watts as f32);
        Some(per_microjoule)
    }

    /// What was counted so far in this frame is not compared with anything.
    pub(super) fn skip_frame(&mut self) {
        (self.pending, self.covered) = (0, 0);
    }
}
