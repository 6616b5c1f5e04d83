//! The settings of the runner: `[agent]` of the configuration, as far as it concerns the pipeline.

use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pattern::Pattern;

/// What happens when a batch comes and the output's queue is full. Every dropped point is counted, and the
/// last points of series that ended are never dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueuePolicy {
    /// The batch waits for room, and with it everything before the queues: the transforms, the supply of
    /// other outputs, and finally the sources, whose missed ticks are counted. Nothing is dropped.
    Block,
    /// The oldest batch is dropped.
    #[default]
    DropOldest,
    /// The new batch is dropped.
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

/// `[agent.outputs."PATTERN"]`: settings of some outputs. What is absent is as in `[agent]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutputSettings {
    /// Batches that may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<NonZeroUsize>,
    /// Points that may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_points: Option<NonZeroUsize>,
    /// What happens when there is no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<QueuePolicy>,
    /// Plugins whose transforms this output has for itself, in order. They do not run for other outputs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transforms: Option<Vec<String>>,
}

/// How much an output's queue holds, and what happens when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) batches: usize,
    /// In all batches together; one batch fits, however large.
    pub(crate) points: usize,
    pub(crate) policy: QueuePolicy,
}

/// The settings of a pipeline.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Batches that may wait for each output.
    pub queue: NonZeroUsize,
    /// Points that may wait for each output, 12 bytes each; one batch may, however large.
    pub queue_points: NonZeroUsize,
    /// What happens when there is no room.
    pub queue_policy: QueuePolicy,
    /// Settings of some outputs. Of several patterns that match and have a setting, the longest decides.
    pub outputs: Vec<(Pattern, OutputSettings)>,
    /// How often outputs are flushed, whatever they do themselves. Zero: by themselves only.
    pub flush_interval: Duration,
    /// How often the runner looks again for what is gone. Zero: never.
    pub rediscover: Duration,
    /// Whether the threads of sources that tick more often than every 10 ms get real-time priority.
    pub realtime: bool,
    /// The agent's plugins in their order, which is that of their transforms.
    pub order: Vec<&'static str>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue: NonZeroUsize::MIN.saturating_add(4095),
            queue_points: NonZeroUsize::MIN.saturating_add(1_999_999),
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
    /// What the queue of the output `name`, `output/plugin/element`, holds.
    pub(crate) fn queue_of(&self, name: &str) -> Bounds {
        Bounds {
            batches: self.of_output(name, |s| s.queue).unwrap_or(self.queue).get(),
            points: self.of_output(name, |s| s.queue_points).unwrap_or(self.queue_points).get(),
            policy: self.of_output(name, |s| s.policy).unwrap_or(self.queue_policy),
        }
    }

    /// Plugins whose transforms the output `name` has for itself.
    pub(crate) fn transforms_of(&self, name: &str) -> Vec<String> {
        self.of_output(name, |s| s.transforms.clone()).unwrap_or_default()
    }

    /// Whether outputs have the transforms of `plugin` for themselves, so that they are not in the common
    /// chain.
    pub(crate) fn is_for_outputs(&self, plugin: &str) -> bool {
        let lists = self.outputs.iter().filter_map(|(_, settings)| settings.transforms.as_ref());
        lists.flatten().any(|name| name == plugin)
    }

    /// A setting of the output `name`: of the longest pattern that matches it and has the setting.
    fn of_output<T>(&self, name: &str, get: impl Fn(&OutputSettings) -> Option<T>) -> Option<T> {
        let matching = self.outputs.iter().filter(|(pattern, _)| pattern.matches(name));
        let set = matching.filter_map(|(pattern, settings)| Some((pattern.weight(), get(settings)?)));
        set.max_by_key(|(weight, _)| *weight).map(|(_, value)| value)
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
    fn the_longest_pattern_that_has_a_setting_decides() {
        let settings = |queue, queue_points, policy| OutputSettings {
            queue: NonZeroUsize::new(queue),
            queue_points: NonZeroUsize::new(queue_points),
            policy,
            transforms: None,
        };
        let settings = Settings {
            outputs: vec![
                ("output/*".parse().unwrap(), settings(0, 500, Some(QueuePolicy::DropNewest))),
                ("output/otlp/*".parse().unwrap(), settings(1024, 0, None)),
                ("output/otlp/metrics".parse().unwrap(), settings(0, 700, Some(QueuePolicy::Block))),
            ],
            ..Settings::default()
        };
        let queue = |name| {
            let Bounds { batches, points, policy } = settings.queue_of(name);
            (batches, points, policy)
        };
        assert_eq!(queue("output/otlp/metrics"), (1024, 700, QueuePolicy::Block));
        assert_eq!(queue("output/otlp/traces"), (1024, 500, QueuePolicy::DropNewest));
        assert_eq!(queue("output/csv/file"), (4096, 500, QueuePolicy::DropNewest));
        assert_eq!(Settings::default().queue_of("output/csv/file").points, 2_000_000);
    }

    #[test]
    fn the_transforms_of_an_output_leave_the_common_chain() {
        let own = OutputSettings { transforms: Some(vec!["top".into()]), ..OutputSettings::default() };
        let settings =
            Settings { outputs: vec![("output/otlp/*".parse().unwrap(), own)], ..Settings::default() };
        assert_eq!(settings.transforms_of("output/otlp/metrics"), ["top"]);
        assert!(settings.transforms_of("output/csv/file").is_empty());
        assert!(settings.is_for_outputs("top") && !settings.is_for_outputs("filter"));
    }
}
