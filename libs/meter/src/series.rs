//! The series of one meter: its energy, and the anomalies of its readings. `counter_channel.rs` and
//! `channel.rs` feed them.

use std::fmt;
use std::sync::Arc;

use wattrace_api::{
    Batch, Domain, Error, Metric, Registry, Resource, ResultExt, SeriesId, SeriesSpec, Timestamp, Value,
};

use crate::anomaly::{Anomalies, Anomaly};

/// What a meter's values are about.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    /// `hw.energy`, or `hw.host.energy` for a meter of the whole machine.
    pub metric: Metric,
    /// The hardware.
    pub resource: Resource,
    /// Its energy counter.
    pub domain: Domain,
}

/// The series of one meter. Until [`MeterSeries::publish`] they do not exist, and everything that is pushed
/// is dropped.
#[derive(Debug)]
pub struct MeterSeries {
    subject: Subject,
    published: Option<(SeriesId, Anomalies)>,
    /// Whether a warning was logged since the last good reading.
    warned: bool,
}

impl MeterSeries {
    /// Series about `subject`, not published yet.
    pub fn new(subject: Subject) -> Self {
        Self { subject, published: None, warned: false }
    }

    /// What they are about.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Opens the series of energy, whose counter starts at `start`, and declares the metric `anomalies`. Does
    /// nothing if they are published already.
    ///
    /// # Errors
    /// Fatal if another plugin has declared one of the metrics differently.
    pub fn publish(
        &mut self,
        anomalies: &Metric,
        registry: &Arc<Registry>,
        start: Timestamp,
    ) -> Result<(), Error> {
        if self.published.is_some() {
            return Ok(());
        }
        let Subject { metric, resource, domain } = &self.subject;
        let anomalies =
            Anomalies::new(registry.clone(), anomalies, resource.clone(), domain.name.clone(), start)?;
        let series = registry.open(SeriesSpec {
            domain: Some(Arc::new(domain.clone())),
            ..SeriesSpec::new(registry.metric(metric).or_fatal()?, resource.clone(), start)
        });
        self.published = Some((series, anomalies));
        Ok(())
    }

    /// Continues the published series of `other`, which is about the same subject and is not published any
    /// more.
    pub fn take_over(&mut self, other: &mut Self) {
        self.published = other.published.take();
    }

    /// Pushes the energy counted so far into the segment of `out` begun last.
    pub fn push_energy(&mut self, microjoules: u64, out: &mut Batch) {
        self.warned = false;
        if let Some((series, _)) = self.published {
            out.push(series, Value::of_steps(microjoules));
        }
    }

    /// Counts an anomaly, and pushes the count into the segment of `out` begun last.
    pub fn count(&mut self, anomaly: Anomaly, out: &mut Batch) {
        if let Some((_, anomalies)) = &mut self.published {
            anomalies.count(anomaly, out);
        }
    }

    /// Logs a warning once, and further ones as debug messages until the next good reading.
    pub fn warn(&mut self, why: &dyn fmt::Display) {
        let domain = &self.subject.domain.name;
        if std::mem::replace(&mut self.warned, true) {
            tracing::debug!(domain, "bad reading: {why}");
        } else {
            tracing::warn!(domain, "bad reading (further ones are logged as debug): {why}");
        }
    }

    /// Ends the series.
    pub fn end(&mut self, out: &mut Batch) {
        if let Some((series, mut anomalies)) = self.published.take() {
            out.end(series);
            anomalies.end(out);
        }
    }
}
