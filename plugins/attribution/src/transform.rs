//! The transform: passes usage and meter points to the books, closes the windows that can be closed, and ends
//! series. Also writes the state file.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};
use wattrace_api::{Batch, Error, Registry, Role, Series, SeriesId, SeriesMap, Timestamp, Transform};

use crate::books::{Books, User};
use crate::config::AttributionConfig;
use crate::model::{PowerModel, StateFile};
use crate::series_use::SeriesUse;

/// How often the state file is written.
const WRITE_INTERVAL: Duration = Duration::from_secs(600);

/// A configured domain that has not appeared by then is reported: slow meters take a few seconds.
const MAX_ABSENCE: Duration = Duration::from_secs(30);

/// Joins usage (`wattrace.consumer.cpu.time`, …) and energy (`hw.energy`) into `wattrace.consumer.energy`.
pub struct Transformer {
    registry: Arc<Registry>,
    config: AttributionConfig,
    uses: SeriesMap<SeriesUse>,
    books: Books,
    state: StateFile,
    /// When the state file was last written.
    written: Timestamp,
    /// Domains of `idle_watts` that have not appeared and are not reported yet.
    absent: Vec<String>,
    /// The end of the first window.
    first: Timestamp,
}

impl Transformer {
    /// A transform with empty books.
    ///
    /// # Errors
    /// Fatal if another plugin declares one of its metrics differently.
    pub fn open(config: &AttributionConfig, registry: Arc<Registry>) -> Result<Self, Error> {
        let mut transformer = Self {
            books: Books::open(registry.clone(), config.history)?,
            config: config.clone(),
            registry: registry.clone(),
            uses: SeriesMap::default(),
            state: StateFile::open(config.state_file()),
            written: Timestamp::default(),
            absent: config.idle_watts.keys().cloned().collect(),
            first: Timestamp::default(),
        };
        // Accounts of the meters that exist are opened now, so that usage is kept for a slow meter from the
        // start.
        for (id, series) in registry.series() {
            if series.domain.is_some() {
                let series_use = transformer.use_of(&series);
                transformer.uses.insert(id, series_use);
            }
        }
        Ok(transformer)
    }

    /// Passes the points of `batch` to the books.
    fn take(&mut self, batch: &Batch) {
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.uses.get(id).is_none() {
                    let series = self.registry.get(id);
                    let series_use = series.map_or(SeriesUse::None, |series| self.use_of(&series));
                    self.uses.insert(id, series_use);
                }
                if let Some(series_use) = self.uses.get_mut(id) {
                    series_use.take(segment.window, value, &mut self.books);
                }
            }
            self.books.usage.timelines.add(segment.window);
        }
    }

    /// Decides what a series is used for. Opens the account of a meter.
    fn use_of(&mut self, series: &Series) -> SeriesUse {
        match series.role {
            Role::Usage(_) => SeriesUse::of_consumer(series, &mut self.books.usage),
            Role::Meter => self.open_account(series),
            _ => SeriesUse::None,
        }
    }

    /// Not inlined: its frame holds a model, and every series that opens would touch the pages of that frame.
    #[inline(never)]
    fn open_account(&mut self, meter: &Series) -> SeriesUse {
        let Some(domain) = &meter.domain else { return SeriesUse::None };
        let configured = self.config.idle_watts.get(&domain.name).copied();
        self.absent.retain(|name| *name != domain.name);
        let given_watts = configured.or(domain.idle_microwatts.map(|w| w as f64 * 1e-6));
        let (weights, smt_factor) = (self.config.weights, self.config.given_smt_factor());
        let learner = self.state.take(domain);
        let model = PowerModel::new(weights, &meter.resource.kind, given_watts, smt_factor, learner);
        debug!(domain = domain.name, "opened its account");
        SeriesUse::Meter { account: self.books.open_account(meter, domain, model, &self.config) }
    }

    /// Handles the ends of series. The ends of the books' own series go to `out`.
    fn take_ends(&mut self, ended: &[SeriesId], out: &mut Batch) {
        for &id in ended {
            match self.uses.remove(id) {
                Some(SeriesUse::Usage {
                    user: User::Consumer(slot) | User::Thread(slot), timeline, ..
                }) => {
                    self.books.usage.release(slot as usize, timeline);
                }
                Some(SeriesUse::HeldMemory { timeline, slot }) => {
                    self.books.usage.hold_nothing(timeline, slot);
                    self.books.usage.release(slot, timeline);
                }
                Some(SeriesUse::Meter { account }) => {
                    let (domain, learner) = self.books.end_account(account, out);
                    self.state.keep(&domain, learner);
                }
                Some(SeriesUse::Usage { .. } | SeriesUse::None) | None => {}
            }
        }
    }

    /// The keys of `idle_watts` that name no domain, with those there are; empty after it was asked once, and
    /// if there are none.
    fn take_absent(&mut self) -> Option<String> {
        let absent = std::mem::take(&mut self.absent);
        let series = self.registry.series();
        let meters = series.iter().filter(|(_, series)| series.role == Role::Meter);
        let mut names: Vec<_> = meters.filter_map(|(_, s)| Some(s.domain.as_ref()?.name.clone())).collect();
        names.sort_unstable();
        (!absent.is_empty()).then(|| {
            format!(
                "plugins.attribution.idle_watts: there is no domain {}; there are {}",
                absent.join(", "),
                names.join(", ")
            )
        })
    }

    fn write_state(&mut self) {
        self.written = self.books.known_to();
        self.state.write(self.books.learnt());
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.take(batch);
        self.books.close(batch);
        if !batch.ended().is_empty() {
            let mut ends = Batch::default();
            self.take_ends(batch.ended(), &mut ends);
            batch.append(&ends);
        }
        self.books.clear_out(batch);
        let now = self.books.known_to();
        if self.first == Timestamp::default() {
            self.first = now;
        } else if !self.absent.is_empty() && now.since(self.first) >= MAX_ABSENCE {
            self.take_absent().iter().for_each(|absent| warn!("{absent}"));
        }
        if self.written == Timestamp::default() {
            self.written = now;
        } else if now.since(self.written) >= WRITE_INTERVAL {
            self.write_state();
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Batch) -> Result<(), Error> {
        self.books.close_all(out);
        self.books.clear_out(out);
        self.books.publish_intervals(out);
        self.take_absent().iter().for_each(|absent| warn!("{absent}"));
        self.write_state();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
