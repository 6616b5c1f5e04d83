//! From a point to a consumer or a domain.

use super::domain::Domain;
use super::series::{Series, Target};
use super::state::Model;
use crate::message::{DomainDescription, Points, Quantity, SeriesDescription};

/// More domains than any machine has.
const MOST_DOMAINS: usize = 4096;

impl Model {
    pub(super) fn describe_domain(&mut self, description: &DomainDescription) {
        match self.domains.iter().position(|domain| domain.name == description.name) {
            Some(known) => {
                let known = &mut self.domains[known];
                known.origin.clone_from(&description.origin);
                known.is_counted = description.counted;
            }
            None if self.domains.len() < MOST_DOMAINS => self.domains.push(Domain::new(description)),
            None => {}
        }
    }

    pub(super) fn describe_series(&mut self, description: &SeriesDescription) {
        let named = description.domain.as_deref();
        let domain = named.and_then(|name| self.domains.iter().position(|domain| domain.name == name));
        let domain = domain.and_then(|index| u16::try_from(index).ok());
        let consumer = description.consumer.and_then(|number| self.by_number.get(&number).copied());
        let target = self.target(description, domain, consumer);
        let Some(target) = target else { return };
        if let Some(consumer) = consumer.and_then(|index| self.consumers.get_mut(index)) {
            consumer.series += 1;
            consumer.has_ended = false;
        }
        let series = Series { consumer, target, start: description.start_unix_nano, last: None };
        if let Some(old) = self.series.insert(description.id, series) {
            self.close(&old);
        }
    }

    fn target(
        &mut self,
        description: &SeriesDescription,
        domain: Option<u16>,
        consumer: Option<usize>,
    ) -> Option<Target> {
        let start = description.start_unix_nano;
        let consumer = consumer.and_then(|index| self.consumers.get_mut(index));
        Some(match description.quantity {
            Quantity::Meter => {
                self.domains.get_mut(usize::from(domain?))?.begin(start);
                Target::Meter { domain: domain? }
            }
            Quantity::StaticPower => Target::StaticPower { domain: domain? },
            Quantity::Energy => {
                let consumer = consumer?;
                let part = consumer.part(domain?);
                let counter = &mut consumer.parts[part];
                if counter.start != start {
                    (counter.start, counter.last) = (start, None);
                }
                Target::Energy { part }
            }
            Quantity::Uncertainty => Target::Uncertainty { part: consumer?.part(domain?) },
            Quantity::CpuTime => consumer.map(|_| Target::CpuTime)?,
            Quantity::GpuTime => consumer.map(|_| Target::GpuTime)?,
            Quantity::GpuMemory => consumer.map(|_| Target::GpuMemory)?,
        })
    }

    /// Whether all that a counter which began at `start` has counted belongs to the windows that were seen,
    /// given the begin of the window of its first point.
    fn is_seen(begin: u64, window_start: u64, start: u64) -> bool {
        start >= begin.min(window_start)
    }

    pub(super) fn take(&mut self, window: &Points) {
        if self.begin == 0 {
            (self.begin, self.frame_end) = (window.start, window.start);
        } else if self.frame == 0 {
            // Usage and meters do not begin at the same time.
            self.begin = self.begin.min(window.start);
        }
        for (&id, &value) in window.ids.iter().zip(&window.values) {
            self.take_count(window, id, value);
        }
        for &(id, value) in &window.gauges {
            self.take_gauge(id, value);
        }
    }

    fn take_count(&mut self, window: &Points, id: u32, value: u64) {
        let Some(series) = self.series.get_mut(id) else { return };
        let begin = self.begin;
        let seen = |start| Self::is_seen(begin, window.start, start);
        if let Target::Meter { domain } = series.target {
            if let Some(domain) = self.domains.get_mut(usize::from(domain)) {
                domain.read(window.start, window.end, value);
            }
            return;
        }
        let Some(index) = series.consumer else { return };
        let Some(consumer) = self.consumers.get_mut(index) else { return };
        match series.target {
            Target::Energy { part } => {
                let Some(part) = consumer.parts.get_mut(part) else { return };
                let nanos = window.end.saturating_sub(window.start);
                if let Some(domain) = self.domains.get_mut(usize::from(part.domain)) {
                    self.is_unknown |= !domain.divide(nanos, window.end, seen);
                }
                match part.last.replace(value) {
                    Some(last) => {
                        part.pending += value.saturating_sub(last);
                        part.microjoules += value.saturating_sub(last);
                    }
                    None => {
                        part.microjoules += value;
                        if seen(part.start) {
                            part.pending += value;
                        } else {
                            self.is_unknown = true;
                        }
                    }
                }
            }
            Target::CpuTime => {
                self.cpu.cover(window.start, window.end);
                let known = series.next(value, seen);
                self.is_unknown |= known.is_none();
                consumer.cpu_pending += known.unwrap_or(0);
                consumer.cpu_nanos += series.counted(value, known);
            }
            Target::GpuTime => {
                self.gpu.cover(window.start, window.end);
                consumer.gpu_pending += series.next(value, seen).unwrap_or(0);
            }
            _ => return,
        }
        self.newest = self.newest.max(window.end);
        consumer.activate(index, &mut self.active);
    }

    fn take_gauge(&mut self, id: u32, value: f64) {
        let Some(series) = self.series.get(id) else { return };
        if let Target::StaticPower { domain } = series.target {
            if let Some(domain) = self.domains.get_mut(usize::from(domain)) {
                domain.static_watts = Some(value);
            }
            return;
        }
        let Some(consumer) = series.consumer.and_then(|index| self.consumers.get_mut(index)) else { return };
        match series.target {
            Target::Uncertainty { part } => {
                if let Some(part) = consumer.parts.get_mut(part) {
                    part.half_width = value as f32;
                }
            }
            Target::GpuMemory => consumer.gpu_memory = value,
            _ => {}
        }
    }

    pub(super) fn end_series(&mut self, id: u32) {
        if let Some(series) = self.series.remove(id) {
            self.close(&series);
        }
    }

    /// A series gets no more points.
    fn close(&mut self, series: &Series) {
        if let Target::Meter { domain } = series.target
            && let Some(domain) = self.domains.get_mut(usize::from(domain))
        {
            domain.meters = domain.meters.saturating_sub(1);
        }
        let Some(index) = series.consumer else { return };
        let Some(consumer) = self.consumers.get_mut(index) else { return };
        if matches!(series.target, Target::GpuMemory) {
            consumer.gpu_memory = 0.0;
        }
        consumer.series = consumer.series.saturating_sub(1);
        if consumer.series == 0 {
            consumer.has_ended = true;
            self.ended.push(index as u32);
        }
    }
}
