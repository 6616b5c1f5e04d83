//! The bytes that a command receives and sends over the network: those of a cgroup of its own, where a plugin
//! counts them by cgroup (`plugins.context.network`). `recorder.rs` adds them up, `report.rs` shows them.

use std::fs::File;

use serde::Serialize;
use tracing::warn;
use wattrace_api::network::{ALL, COUNT};
use wattrace_api::{MetricId, Registry};
use wattrace_cgroup::ScopedCgroup;

use super::process_stats::bytes;
use crate::config::Config;

/// The key of the plugin that counts.
const KEY: &str = "network";

/// The cgroup in which the command's bytes are counted.
pub(super) struct CommandCgroup {
    path: String,
    /// `None`: it belongs to the budget.
    scoped: Option<ScopedCgroup>,
}

impl CommandCgroup {
    /// The cgroup at `of_budget`, or a new one; `None`: bytes are not counted, or no cgroup can be created.
    pub(super) fn open(config: &Config, of_budget: Option<&str>) -> Option<Self> {
        let counts = |table: &toml::Table| table.get(KEY).and_then(toml::Value::as_bool) == Some(true);
        if !config.plugins.iter().any(|plugin| plugin.enabled && counts(&plugin.table)) {
            return None;
        }
        if let Some(path) = of_budget {
            return Some(Self { path: path.to_owned(), scoped: None });
        }
        match ScopedCgroup::create(&format!("wattrace-exec-network-{}", std::process::id())) {
            Ok(scoped) => Some(Self { path: scoped.path().to_owned(), scoped: Some(scoped) }),
            Err(e) => {
                warn!("network bytes of the command are unknown: it gets no cgroup of its own: {e}");
                None
            }
        }
    }

    /// What the command has to write `0` to before it is executed, to be in it.
    pub(super) fn to_join(&self) -> Option<File> {
        self.scoped.as_ref()?.cgroup().to_join().ok()
    }

    /// What is counted in it: nothing yet.
    pub(super) fn count(&self) -> NetworkBytes {
        NetworkBytes { path: self.path.clone(), bytes: [0; COUNT] }
    }
}

/// What the command's cgroup, with all cgroups in it, has received and sent since the command began.
#[derive(Debug)]
pub(super) struct NetworkBytes {
    path: String,
    bytes: [u64; COUNT],
}

impl NetworkBytes {
    /// Whether the cgroup at `path` is the command's, or within it.
    pub(super) fn include(&self, path: &str) -> bool {
        path.strip_prefix(&*self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Adds to the counter number `which`.
    pub(super) fn add(&mut self, which: usize, bytes: u64) {
        self.bytes[which] += bytes;
    }

    /// The command begins now.
    pub(super) fn reset(&mut self) {
        self.bytes = [0; COUNT];
    }
}

/// Which counter a metric is.
pub(super) struct NetworkIds([Option<MetricId>; COUNT]);

impl NetworkIds {
    /// Declares the metrics, if nobody has.
    pub(super) fn declare(registry: &Registry) -> Self {
        Self(ALL.each_ref().map(|metric| registry.metric(metric).ok()))
    }

    /// The number of the counter whose metric `id` is.
    pub(super) fn position(&self, id: MetricId) -> Option<usize> {
        self.0.iter().position(|&known| known == Some(id))
    }
}

/// The same in the report.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct NetworkJson {
    received: u64,
    sent: u64,
}

impl From<&NetworkBytes> for NetworkJson {
    fn from(counted: &NetworkBytes) -> Self {
        let [received, sent] = counted.bytes;
        Self { received, sent }
    }
}

impl NetworkJson {
    /// A line for people.
    pub(super) fn for_people(&self) -> String {
        format!("  network: {} received, {} sent\n", bytes(self.received), bytes(self.sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_and_those_in_it_are_the_commands() {
        let mut counted = NetworkBytes { path: "/a/b".into(), bytes: [0; COUNT] };
        let included = ["/a/b", "/a/b/c", "/a/bc", "/a", "/"].map(|path| counted.include(path));
        assert_eq!(included, [true, true, false, false, false]);
        counted.add(0, 7);
        counted.add(1, 1_500);
        assert_eq!(NetworkJson::from(&counted).for_people(), "  network: 7 B received, 1.5 kB sent\n");
        counted.reset();
        assert_eq!(counted.bytes, [0, 0]);
    }
}
