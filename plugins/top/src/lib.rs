//! The `top` plugin: only the heaviest consumers go on one by one. What all others use is summed into
//! `other`, so that every total stays what it was, to the step. The transform is `wattrace-ranking`'s; here
//! is its configuration.
//!
//! It runs behind all that computes per consumer, and before what renames: for all outputs, or for some of
//! them (`agent.outputs`). The output `otlp` has such a limit already (`plugins.otlp.top`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{ConsumerKind, Error, Plugin, Setup, metric};
use wattrace_ranking::Settings;

/// The plugin.
#[derive(Debug)]
pub struct Top;

/// `[plugins.top]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopConfig {
    /// How many consumers go on one by one; at least 1.
    pub count: usize,
    /// The counter whose increase makes a consumer heavy, summed over all its series.
    pub by: String,
    /// The consumers that compete, by their type: `process`, `thread`, `cgroup`, `container`, `pod`, `unit`,
    /// `job`, `machine`, `user` or `tree`. All others pass.
    pub consumer: String,
    /// Time between two rankings. What was used before counts half at each.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for TopConfig {
    fn default() -> Self {
        Self {
            count: 20,
            by: metric::CONSUMER_ENERGY.name.into_owned(),
            consumer: ConsumerKind::Process.as_str().to_owned(),
            interval: Duration::from_secs(10),
        }
    }
}

/// Whether its consumers may compete: all may but the closing entries.
fn may_compete(kind: &ConsumerKind) -> bool {
    use ConsumerKind::{Idle, Irq, Other, Unattributed};
    !matches!(kind, Idle | Irq | Other | Unattributed)
}

impl TopConfig {
    /// The kind of consumers that compete.
    fn kind(&self) -> Result<ConsumerKind, Error> {
        let refuse = |key: &str, why: String| Err(Error::fatal(format!("plugins.top.{key}: {why}")));
        if self.count == 0 {
            return refuse("count", "must be at least 1".to_owned());
        }
        if self.by.is_empty() {
            return refuse("by", "is empty: name a counter, such as wattrace.consumer.cpu.time".to_owned());
        }
        if self.interval.is_zero() {
            return refuse("interval", "must be more than 0s".to_owned());
        }
        let competitors = ConsumerKind::ALL.into_iter().filter(may_compete);
        match competitors.clone().find(|kind| kind.as_str() == self.consumer) {
            Some(kind) => Ok(kind),
            None => {
                let names: Vec<_> = competitors.map(ConsumerKind::as_str).collect();
                refuse("consumer", format!("\"{}\" is none of {}", self.consumer, names.join(", ")))
            }
        }
    }
}

impl Plugin for Top {
    const NAME: &'static str = "top";
    const DESCRIPTION: &'static str = "the heaviest consumers one by one, and the sum of all others";
    type Config = TopConfig;
    const SHAPES_OUTPUT: bool = true;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: TopConfig, setup: &mut Setup) -> Result<(), Error> {
        let kind = config.kind()?;
        let registry = setup.registry();
        let settings = Settings {
            count: config.count,
            kind,
            threads: false,
            by: config.by,
            fallback: String::new(),
            interval: config.interval,
        };
        setup.transform("consumers", move || {
            Ok(wattrace_ranking::Top::new(settings.clone(), registry.clone()))
        });
        Ok(())
    }
}
