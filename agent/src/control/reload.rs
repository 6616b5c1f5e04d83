//! Reload: reads the configuration again from its sources, checks all of it, and only then restarts the
//! plugins whose tables have changed. All other plugins keep running, with their counters and their state.

use toml::Table;
use wattrace_api::PluginElement;

use super::protocol::Reloaded;
use crate::config::{AgentConfig, Config, Request};
use crate::pipeline::control::Control;
use crate::plugins::Registered;

/// Reloads the configuration of a running agent.
pub(crate) struct Reloader {
    request: Request,
    plugins: Vec<Registered>,
    control: Control,
    /// The configuration in force. Locked during a reload, so that reloads run one after the other.
    running: tokio::sync::Mutex<Config>,
}

/// Everything that is wrong with the new configuration. The old one stays in force.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) Vec<String>);

/// A plugin whose table has changed, with its new elements.
struct Change {
    plugin: &'static str,
    elements: Vec<PluginElement>,
}

impl Reloader {
    /// A reloader for an agent made of `plugins` that runs with `config`, which was loaded as `request` says.
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
        // Reading a file may block.
        let loaded = tokio::task::spawn_blocking(move || Config::load(&request, &plugins)).await;
        let new_config = loaded
            .map_err(|e| Refused(vec![format!("it cannot be read: {e}")]))?
            .map_err(|e| Refused(e.to_string().lines().map(str::to_owned).collect()))?;

        let needs_restart = changed_keys(&running.agent, &new_config.agent);
        let mut reloaded = Reloaded { needs_restart, ..Reloaded::default() };
        let (mut changes, mut problems) = (Vec::new(), Vec::new());
        for (old, new) in running.plugins.iter().zip(&new_config.plugins) {
            let list = match (old.enabled, new.enabled) {
                (false, false) => continue,
                (true, true) if old.table == new.table => {
                    reloaded.unchanged.push(new.name.into());
                    continue;
                }
                (true, true) => &mut reloaded.restarted,
                (false, true) => &mut reloaded.started,
                (true, false) => &mut reloaded.stopped,
            };
            list.push(new.name.into());
            let elements = if new.enabled { self.start(new.name, new.table.clone()) } else { Ok(Vec::new()) };
            match elements {
                Ok(elements) => changes.push(Change { plugin: new.name, elements }),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(Refused(problems));
        }
        for Change { plugin, elements } in changes {
            self.control.replace_plugin(plugin, elements).await;
        }
        running.plugins = new_config.plugins;
        Ok(reloaded)
    }

    /// Starts a plugin, which checks its values and touches nothing yet.
    fn start(&self, name: &str, table: Table) -> Result<Vec<PluginElement>, String> {
        let Some(plugin) = self.plugins.iter().find(|p| p.name == name) else { return Ok(Vec::new()) };
        let mut host = self.control.host();
        host.start(plugin.name, |setup| (plugin.start)(table, setup)).map_err(|e| e.to_string())?;
        Ok(host.take_elements())
    }
}

/// `agent.KEY` of each key that differs.
fn changed_keys(old: &AgentConfig, new: &AgentConfig) -> Vec<String> {
    let table = |config| Table::try_from(config).unwrap_or_default();
    let (old, new) = (table(old), table(new));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    changed.map(|(key, _)| format!("agent.{key}")).collect()
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
