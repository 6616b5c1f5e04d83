//! Reload: the configuration is read anew from where it came from, checked as a whole, and only then the
//! plugins are restarted whose tables have changed. All others go on, with their counters and all they know.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml::Table;
use wattrace_api::Added;

use crate::config::{AgentConfig, Config, Request};
use crate::pipeline::control::Control;
use crate::plugins::Registered;

/// Reads the configuration of a running agent anew.
pub(crate) struct Reloader {
    request: Request,
    plugins: Vec<Registered>,
    control: Control,
    /// What is in force. Held while it changes: reloads take place one after the other.
    running: tokio::sync::Mutex<Config>,
}

/// What a reload has changed. Each list holds plugins' names, unless it says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// Their tables had changed.
    pub(crate) restarted: Vec<String>,
    /// They were off.
    pub(crate) started: Vec<String>,
    /// They are off now.
    pub(crate) stopped: Vec<String>,
    /// They are on and went on as they were.
    pub(crate) unchanged: Vec<String>,
    /// Keys of `[agent]` that have changed, and are not in force before the agent is restarted.
    pub(crate) needs_restart: Vec<String>,
}

/// All that is wrong with the new configuration. Nothing was touched.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Vec<String>);

/// A plugin whose table has changed, ready.
struct Changed {
    name: &'static str,
    added: Vec<(&'static str, Added)>,
}

impl Reloader {
    /// For the agent made of `plugins` that runs with `config`, which `request` describes.
    pub(crate) fn new(request: Request, plugins: &[Registered], config: Config, control: Control) -> Self {
        Self { request, plugins: plugins.to_vec(), control, running: tokio::sync::Mutex::new(config) }
    }

    /// Reloads.
    ///
    /// # Errors
    /// [`Refused`]: the old configuration stays in force.
    pub(crate) async fn reload(&self) -> Result<Reloaded, Refused> {
        let mut running = self.running.lock().await;
        let (request, plugins) = (self.request.clone(), self.plugins.clone());
        // Reading a file may take long.
        let loaded = tokio::task::spawn_blocking(move || Config::load(&request, &plugins)).await;
        let wanted = loaded
            .map_err(|e| Refused(vec![format!("it cannot be read: {e}")]))?
            .map_err(|e| Refused(e.to_string().lines().map(str::to_owned).collect()))?;

        let mut reloaded =
            Reloaded { needs_restart: changed_keys(&running.agent, &wanted.agent), ..Reloaded::default() };
        let (mut changes, mut problems) = (Vec::new(), Vec::new());
        for (old, new) in running.plugins.iter().zip(&wanted.plugins) {
            match (old.enabled, new.enabled) {
                (false, false) => continue,
                (true, true) if old.table == new.table => {
                    reloaded.unchanged.push(new.name.into());
                    continue;
                }
                (true, true) => reloaded.restarted.push(new.name.into()),
                (false, true) => reloaded.started.push(new.name.into()),
                (true, false) => reloaded.stopped.push(new.name.into()),
            }
            let added = if new.enabled { self.prepare(new.name, new.table.clone()) } else { Ok(Vec::new()) };
            match added {
                Ok(added) => changes.push(Changed { name: new.name, added }),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(Refused(problems));
        }
        for Changed { name, added } in changes {
            self.control.replace_plugin(name, added).await;
        }
        running.plugins = wanted.plugins;
        Ok(reloaded)
    }

    /// Starts a plugin, which checks its values and touches nothing yet.
    fn prepare(&self, name: &str, table: Table) -> Result<Vec<(&'static str, Added)>, String> {
        let Some(plugin) = self.plugins.iter().find(|p| p.name == name) else { return Ok(Vec::new()) };
        let mut setup = self.control.setup();
        setup.enter(plugin.name);
        (plugin.start)(table, &mut setup).map_err(|e| e.to_string())?;
        Ok(setup.take_added())
    }
}

/// `agent.KEY` of each key that differs.
fn changed_keys(old: &AgentConfig, new: &AgentConfig) -> Vec<String> {
    let table = |config| Table::try_from(config).unwrap_or_default();
    let (old, new) = (table(old), table(new));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    changed.map(|(key, _)| format!("agent.{key}")).collect()
}

impl Reloaded {
    /// Whether the elements of `plugin` are new.
    pub(crate) fn has_new(&self, plugin: &str) -> bool {
        self.restarted.iter().chain(&self.started).any(|name| name == plugin)
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("restarted", &self.restarted), ("started", &self.started), ("stopped", &self.stopped)];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> = parts.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
        match &parts[..] {
            [] => f.write_str("reloaded: no plugin's table has changed"),
            parts => write!(f, "reloaded: {}", parts.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_keys_of_the_agent_are_named() {
        let old = AgentConfig::default();
        let new = AgentConfig { realtime: true, control_socket: "/tmp/x".into(), ..old.clone() };
        assert_eq!(changed_keys(&old, &new), ["agent.control_socket", "agent.realtime"]);
        assert_eq!(changed_keys(&old, &old), [""; 0]);
    }
}
