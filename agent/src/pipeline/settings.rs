//! What the runner can be told: `[agent]` of the configuration, as far as it concerns the pipeline.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;

/// What happens to a batch that finds an output's queue full. Whatever is dropped is counted, and the last points of series
/// that ended are never dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueuePolicy {
    /// It waits for room, and with it everything before the queues: transforms, other outputs' supply, and in the end the
    /// sources, whose ticks are missed and counted meanwhile. Nothing is dropped.
    Block,
    /// The oldest batch goes.
    #[default]
    DropOldest,
    /// It goes itself.
    DropNewest,
}

impl QueuePolicy {
    /// `block`, `drop-oldest` or `drop-newest`.
    pub fn as_str(self) -> &'static str {
        match self {
            QueuePolicy::Block => "block",
            QueuePolicy::DropOldest => "drop-oldest",
            QueuePolicy::DropNewest => "drop-newest",
        }
    }
}

/// `[agent.outputs."PATTERN"]`: what is different for some outputs. What is not said is as in `[agent]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSettings {
    /// Batches that may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<NonZeroUsize>,
    /// What happens when there is no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<QueuePolicy>,
}

/// How a pipeline is to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Batches that may wait for each output.
    pub queue: NonZeroUsize,
    /// What happens when there is no room.
    pub queue_policy: QueuePolicy,
    /// What is different for some outputs; of several patterns that match, the longest says it.
    pub outputs: Vec<(Pattern, OutputSettings)>,
    /// How often outputs are flushed, whatever they do themselves. Zero: by themselves only.
    pub flush_interval: Duration,
    /// How often what is gone is looked for again. Zero: never.
    pub rediscover: Duration,
    /// Whether sources that tick every 10 ms or faster get a thread with real-time priority.
    pub realtime: bool,
    /// The agent's plugins in their order, which is that of their transforms.
    pub order: Vec<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue: NonZeroUsize::MIN.saturating_add(255),
            queue_policy: QueuePolicy::default(),
            outputs: Vec::new(),
            flush_interval: Duration::ZERO,
            rediscover: Duration::from_secs(60),
            realtime: false,
            order: Vec::new(),
        }
    }
}

impl Settings {
    /// Capacity and policy of the queue of the output `name`, `output/plugin/element`.
    pub(crate) fn queue_of(&self, name: &str) -> (usize, QueuePolicy) {
        let matching = || self.outputs.iter().filter(|(pattern, _)| pattern.matches(name));
        let longest = |says: fn(&OutputSettings) -> bool| {
            matching().filter(|(_, s)| says(s)).max_by_key(|(p, _)| p.weight()).map(|(_, s)| s)
        };
        let queue = longest(|s| s.queue.is_some()).and_then(|s| s.queue).unwrap_or(self.queue);
        let policy = longest(|s| s.policy.is_some()).and_then(|s| s.policy).unwrap_or(self.queue_policy);
        (queue.get(), policy)
    }

    /// Where the transforms of `plugin` stand among the others.
    pub(crate) fn rank(&self, plugin: &str) -> usize {
        self.order.iter().position(|p| *p == plugin).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pattern_that_says_something_says_it() {
        let says = |queue: usize, policy| OutputSettings { queue: NonZeroUsize::new(queue), policy };
        let settings = Settings {
            outputs: vec![
                ("output/*".parse().unwrap(), says(0, Some(QueuePolicy::DropNewest))),
                ("output/otlp/*".parse().unwrap(), says(1024, None)),
                ("output/otlp/metrics".parse().unwrap(), says(0, Some(QueuePolicy::Block))),
            ],
            ..Settings::default()
        };
        assert_eq!(settings.queue_of("output/otlp/metrics"), (1024, QueuePolicy::Block));
        assert_eq!(settings.queue_of("output/otlp/traces"), (1024, QueuePolicy::DropNewest));
        assert_eq!(settings.queue_of("output/csv/file"), (256, QueuePolicy::DropNewest));
    }
}
