//! The keys of `[plugins.budget]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::Error;

/// `[plugins.budget]`
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// The limits.
    pub limits: Vec<LimitConfig>,
    /// Where cgroup v2 is mounted. Empty: it is looked up.
    pub cgroup_root: PathBuf,
}

/// A limit on one cgroup, with all cgroups in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitConfig {
    /// The path of the cgroup below the mount of cgroup v2: "/user.slice". Empty: see `unit`.
    pub cgroup: String,
    /// The systemd unit, whose cgroup is found when one of its processes runs: "backup.service". If several
    /// have the name, the one that runs first.
    pub unit: String,
    /// Average power, W.
    pub watts: f64,
    /// The time over which power is averaged: watts × over may be used at once.
    #[serde(with = "humantime_serde")]
    pub over: Duration,
    /// What happens when more is used: "notify", "throttle" or "stop".
    pub action: Action,
}

/// What happens when a limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is logged and counted.
    Notify,
    /// The cgroup gets less CPU time (`cpu.max`), so that its average power is the limit.
    Throttle,
    /// Its processes are asked to end, and killed ten seconds later.
    Stop,
}

impl Action {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Action::Notify => "notify",
            Action::Throttle => "throttle",
            Action::Stop => "stop",
        }
    }
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self {
            cgroup: String::new(),
            unit: String::new(),
            watts: 0.0,
            over: Duration::from_secs(10),
            action: Action::Notify,
        }
    }
}

impl LimitConfig {
    /// What it is about: a cgroup or a unit.
    pub(crate) fn name(&self) -> &str {
        if self.cgroup.is_empty() { &self.unit } else { &self.cgroup }
    }
}

impl BudgetConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (number, limit) in self.limits.iter().enumerate() {
            let wrong = |what: &str| Err(Error::fatal(format!("plugins.budget.limits[{number}]: {what}")));
            match (limit.cgroup.as_str(), limit.unit.as_str()) {
                ("", "") => return wrong("names neither a cgroup nor a unit"),
                ("", unit) if unit.contains('/') => return wrong("a unit's name has no slash: see cgroup"),
                ("", _) => {}
                (_, unit) if !unit.is_empty() => return wrong("names a cgroup and a unit: leave one out"),
                (path, _) if !path.starts_with('/') => return wrong("a cgroup's path begins with a slash"),
                (path, _) if path.trim_matches('/').is_empty() => {
                    return wrong("the root cgroup is the whole machine, with this agent");
                }
                _ => {}
            }
            if !(limit.watts > 0.0 && limit.watts < 1e6) {
                return wrong("watts must be above 0 and below 1000000");
            }
            if limit.over < Duration::from_secs(1) {
                return wrong("over must be at least 1s");
            }
        }
        Ok(())
    }
}
