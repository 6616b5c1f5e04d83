//! The table `[agent]`: the configuration of the runner and of the control socket.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::{OutputSettings, QueuePolicy, Settings};
use crate::pattern::Pattern;

/// `[agent]`
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct AgentConfig {
    /// Maximum number of batches in each output's queue.
    pub queue: NonZeroUsize,
    /// Maximum number of points in each output's queue, in all batches together. A single batch may exceed
    /// it.
    pub queue_points: NonZeroUsize,
    /// What happens to a batch when a queue is full.
    pub queue_policy: QueuePolicy,
    /// Settings of some outputs, by patterns of their names: `output/otlp/*`.
    pub outputs: BTreeMap<Pattern, OutputSettings>,
    /// Time between flushes of the outputs; zero: each output decides.
    #[serde(with = "humantime_serde")]
    pub flush_interval: Duration,
    /// Time between attempts to open what was absent; zero: no attempts.
    #[serde(with = "humantime_serde")]
    pub rediscover: Duration,
    /// Whether sources that tick more often than every 10 ms get real-time priority.
    pub realtime: bool,
    /// The socket for `wattrace control`; empty: none.
    pub control_socket: PathBuf,
}

impl Default for AgentConfig {
    fn default() -> Self {
        let defaults = Settings::default();
        Self {
            queue: defaults.queue,
            queue_points: defaults.queue_points,
            queue_policy: defaults.queue_policy,
            outputs: BTreeMap::new(),
            flush_interval: defaults.flush_interval,
            rediscover: defaults.rediscover,
            realtime: defaults.realtime,
            control_socket: "/run/wattrace/control.sock".into(),
        }
    }
}

impl AgentConfig {
    /// The settings of the pipeline, for an agent with plugins in the order `order`.
    pub fn pipeline(&self, order: Vec<&'static str>) -> Settings {
        Settings {
            queue: self.queue,
            queue_points: self.queue_points,
            queue_policy: self.queue_policy,
            outputs: self.outputs.clone().into_iter().collect(),
            flush_interval: self.flush_interval,
            rediscover: self.rediscover,
            realtime: self.realtime,
            order,
        }
    }
}
