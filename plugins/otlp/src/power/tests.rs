//! Distributions of meters whose power is known.

use std::time::Duration;

use wattrace_api::{Domain, Follows, Origin, Registry, Resource, SeriesSpec, metric};

use super::*;
use crate::encode::tests::shown;

const J: u64 = 1_000_000;

fn meter(registry: &Arc<Registry>) -> SeriesId {
    let (name, origin) = ("package-0".to_owned(), Origin::Simulated);
    let domain = Domain { name, origin, follows: Follows::Package(0), within: None, idle_microwatts: None };
    let spec =
        SeriesSpec::new(registry.metric(&metric::HW_ENERGY).unwrap(), Resource::package(0), Timestamp(0));
    registry.open(SeriesSpec { domain: Some(Arc::new(domain)), ..spec })
}

/// 100 windows of 1 ms, 90 with 10 W and 10 with 50 W, from `start` ms on.
fn run(powers: &mut Powers, registry: &Registry, id: SeriesId, start: u64, value: &mut u64) {
    let series = registry.get(id).unwrap();
    let at = |ms: u64| Timestamp(0) + Duration::from_millis(ms);
    for ms in start..start + 100 {
        *value += if ms % 10 == 9 { J / 20 } else { J / 100 };
        powers.write(id, &series, Window::new(at(ms), at(ms + 1)), Value::of_steps(*value));
    }
}

#[test]
fn each_window_counts_once_and_deltas_begin_where_the_last_ended() {
    let registry = Registry::new();
    let (id, clock) = (meter(&registry), Clock::manual(Timestamp(0)));
    let consumer = registry.open(SeriesSpec::new(
        registry.metric(&metric::CONSUMER_ENERGY).unwrap(),
        Resource::HOST,
        Timestamp(0),
    ));
    let ms = |ns: u64| ns / 1_000_000;
    for (temporality, counts, starts) in
        [(Temporality::Cumulative, [100, 200], [0, 0]), (Temporality::Delta, [100, 100], [0, 100])]
    {
        let (mut powers, mut value) = (Powers::new(temporality), 0);
        for (round, (count, start)) in (0..).zip(counts.into_iter().zip(starts)) {
            run(&mut powers, &registry, id, round * 100, &mut value);
            let used = Window::new(Timestamp(0), Timestamp(1));
            powers.write(consumer, &registry.get(consumer).unwrap(), used, Value::of_steps(J));
            let points = powers.collect(&clock);
            assert_eq!(points.len(), 1, "only meters");
            let point = &points[0];
            assert_eq!((point.count, ms(point.start_time_unix_nano)), (count, start), "{temporality:?}");
            assert_eq!(ms(point.time_unix_nano), round * 100 + 100);
            // 90 of 10 W and 10 of 50 W in each hundred.
            let expected = count as f64 * 14.0;
            assert!((point.sum.unwrap() - expected).abs() < 1e-6, "{:?}", point.sum);
            let near = |value: Option<f64>, watts: f64| (value.unwrap() - watts).abs() < 1e-9;
            assert!(near(point.min, 10.0) && near(point.max, 50.0), "{point:?}");
            let filled: Vec<_> =
                point.positive.as_ref().unwrap().bucket_counts.iter().filter(|&&c| c > 0).collect();
            assert_eq!(filled, [&(count / 10 * 9), &(count / 10)]);
            let shown: Vec<_> = point.attributes.iter().map(|a| (a.key.as_str(), shown(a))).collect();
            assert!(shown.contains(&("wattrace.domain", "package-0".to_owned())), "{shown:?}");
        }
        let rest = powers.collect(&clock);
        assert_eq!(rest.is_empty(), temporality == Temporality::Delta, "an empty distribution is not sent");
        powers.end(id);
        assert_eq!(powers.collect(&clock).len(), 0);
    }
}
