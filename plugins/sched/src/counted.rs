//! What is counted at every context switch: the three counters that attribution knows, and perf events by
//! name. The kernel programs have three places, which the two share.

use std::borrow::Cow;
use std::path::Path;

use tracing::warn;
use wattrace_api::{Error, Metric, Unit, metric};

use crate::SchedConfig;
use crate::kernel::{Counter, PerfEvent, find_event};

/// What an event counts for a consumer. NAME is the event's, with `_` for what is no letter or digit.
const EVENTS: Metric = Metric::counter(
    "wattrace.consumer.events.NAME",
    Unit::Count("{event}"),
    1.0,
    "How often a perf event happened while a consumer ran, per CPU package",
);

/// All places.
const PLACES: [Counter; 3] = [Counter::Cycles, Counter::Instructions, Counter::CacheMisses];

/// Something that is counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counted {
    /// Its place: that of a counter which is not asked for, if it is an event.
    pub(crate) place: Counter,
    pub(crate) event: PerfEvent,
    pub(crate) metric: Metric,
}

/// Checks that there are not more than three.
///
/// # Errors
/// Fatal if there are.
pub(crate) fn check(config: &SchedConfig) -> Result<(), Error> {
    if config.counters.len() + config.events.len() > PLACES.len() {
        return Err(Error::fatal(
            "plugins.sched.counters and plugins.sched.events name more than three together: leave some out",
        ));
    }
    Ok(())
}

/// What `config` asks for, and is found on the machine whose `/sys` is at `sysfs`.
pub(crate) fn all(config: &SchedConfig, sysfs: &Path) -> Vec<Counted> {
    let counter = |&place: &Counter| {
        let metric = metric::CONSUMER_COUNTS[place.position()].clone();
        Counted { place, event: place.event(), metric }
    };
    let mut all: Vec<_> = config.counters.iter().map(counter).collect();
    let mut free = PLACES.into_iter().filter(|place| !config.counters.contains(place));
    for name in &config.events {
        match find_event(name, sysfs) {
            // `check` has counted the places.
            Ok(event) => {
                all.extend(free.next().map(|place| Counted { place, event, metric: of_event(name) }));
            }
            Err(e) => warn!("plugins.sched.events: {e}. Continuing without"),
        }
    }
    all
}

fn of_event(name: &str) -> Metric {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    let name = EVENTS.name.replace("NAME", plain.trim_matches('_'));
    Metric { name: Cow::Owned(name), ..EVENTS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_take_the_places_that_counters_leave() {
        let config = SchedConfig {
            counters: vec![Counter::Instructions],
            events: ["page-faults", "r01C2"].map(String::from).into(),
            ..SchedConfig::default()
        };
        check(&config).unwrap();
        let all = all(&config, Path::new("/nonexistent"));
        let seen: Vec<_> =
            all.iter().map(|c| (c.place, c.event.kind, c.event.config[0], &*c.metric.name)).collect();
        assert_eq!(
            seen,
            [
                (Counter::Instructions, 0, 1, "wattrace.consumer.cpu.instructions"),
                (Counter::Cycles, 1, 2, "wattrace.consumer.events.page_faults"),
                (Counter::CacheMisses, 4, 0x1c2, "wattrace.consumer.events.r01c2"),
            ]
        );
        let more = SchedConfig { counters: PLACES.into(), ..config.clone() };
        assert!(check(&more).unwrap_err().to_string().contains("more than three"));
        let name = of_event("cpu/event=0x3c,umask=0x01/").name;
        assert_eq!(name, "wattrace.consumer.events.cpu_event_0x3c_umask_0x01");
    }

    #[test]
    fn an_event_that_does_not_exist_is_left_out() {
        let events = ["nonsense", "cs"].map(String::from).into();
        let config = SchedConfig { events, ..SchedConfig::default() };
        let all = all(&config, Path::new("/nonexistent"));
        assert_eq!((all.len(), all[0].place, all[0].event.config[0]), (1, Counter::Cycles, 3));
    }
}
