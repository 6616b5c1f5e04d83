//! The description of a series that a transform computes from another one, such as the carbon of an energy.

use wattrace_api::{MetricId, Series, SeriesSpec, Timestamp, Window};

/// A series of `metric` about the same subject as `series`.
pub fn derived_spec(series: &Series, metric: MetricId, start: Timestamp) -> SeriesSpec {
    SeriesSpec {
        metric,
        resource: series.resource.clone(),
        domain: series.domain.clone(),
        consumer: series.consumer.clone(),
        attributes: series.attributes.clone(),
        start,
    }
}

/// When the sum of the increments of `series` is zero, for a transform that was opened at `since` and sees
/// the first point of `series` over `window`: at the start of `series` if that point counts in full,
/// otherwise at the start of `window`. [`wattrace_api::Increments`] says which points count.
pub fn derived_start(series: &Series, since: Timestamp, window: Window) -> Timestamp {
    if series.start < since { series.start.max(window.start) } else { series.start }
}

#[cfg(test)]
mod tests {
    use wattrace_api::{Increments, Value};
    use wattrace_transform_testing::{Fixture, SECOND, seconds};

    use super::*;

    #[test]
    fn the_derived_start_is_where_the_sum_of_increments_is_zero() {
        let fixture = Fixture::new();
        for (start, since, window, expected, counts) in [
            (0, 10, seconds(20, 21), 20, false),
            (5, 10, seconds(5, 15), 5, true),
            (12, 10, seconds(20, 21), 12, true),
        ] {
            fixture.rig.clock.set(Timestamp(start * SECOND));
            let series = fixture.rig.registry.get(fixture.energy(None)).unwrap();
            let since = Timestamp(since * SECOND);
            assert_eq!(derived_start(&series, since, window), Timestamp(expected * SECOND));
            let increment = Increments::new(&series, since).next(window, Value::of_steps(7));
            assert_eq!(increment > 0, counts, "the increment agrees with the start");
        }
    }
}
