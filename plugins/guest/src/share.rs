//! `guest-share`, on the host: an output that writes a small file for each virtual machine, with the energy
//! attributed to it. `share/machines.rs` adds up the energy, `share/store.rs` keeps the files,
//! `share/serve.rs` the sockets.

mod machine;
mod machines;
mod serve;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Batch, Clock, Error, Output, Plugin, Setup};

use self::machines::Machines;
use self::serve::Servers;
use self::store::Store;

/// The plugin.
#[derive(Debug)]
pub struct GuestShare;

/// `[plugins.guest-share]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestShareConfig {
    /// The directory of the machines' directories: machine `web` has `web/share.json`. Give each machine
    /// access to its own directory only.
    pub directory: PathBuf,
    /// Whether each machine's directory also has a unix socket, `share.sock`, that sends the same line to
    /// each connection.
    pub socket: bool,
    /// The machines to share with: names or ids of consumers of the type `machine`. Empty: all.
    pub machines: Vec<String>,
    /// Processes that are machines, for hosts where the plugin `groups` finds no machines.
    pub processes: Vec<ProcessRule>,
    /// Least time between two writes of a file; "0s": write at every change.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long to keep the file of a machine that is gone.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
}

/// A process that is a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRule {
    /// The machine's name.
    pub machine: String,
    /// The pid; 0: any.
    #[serde(default)]
    pub pid: u32,
    /// The name of its executable; empty: any.
    #[serde(default)]
    pub name: String,
}

impl Default for GuestShareConfig {
    fn default() -> Self {
        Self {
            directory: "/run/wattrace/machines".into(),
            socket: false,
            machines: Vec::new(),
            processes: Vec::new(),
            interval: Duration::from_secs(1),
            keep: Duration::from_secs(3600),
        }
    }
}

impl GuestShareConfig {
    fn validate(&self) -> Result<(), Error> {
        if self.directory.as_os_str().is_empty() {
            return Err(Error::fatal("plugins.guest-share.directory: is empty: name a directory"));
        }
        for rule in &self.processes {
            if rule.machine.is_empty() {
                return Err(Error::fatal(
                    "plugins.guest-share.processes: machine is empty: name the machine",
                ));
            }
            if rule.pid == 0 && rule.name.is_empty() {
                return Err(Error::fatal(format!(
                    "plugins.guest-share.processes: {} is any process: give its pid or its executable's name",
                    rule.machine
                )));
            }
        }
        Ok(())
    }
}

impl Plugin for GuestShare {
    const NAME: &'static str = "guest-share";
    const DESCRIPTION: &'static str =
        "shares with each virtual machine its part of the energy, in a file of its own";
    type Config = GuestShareConfig;

    // It writes files, so it has to be enabled.
    fn on_by_default() -> bool {
        false
    }

    fn start(config: GuestShareConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        setup.output("machines", move || {
            let store = Store::new(&config.directory);
            let machines = Machines::open(&config, registry.clone(), &clock, store.read_all());
            let servers = config.socket.then(|| Servers::new(runtime.clone(), clock.clone()));
            let (clock, config) = (clock.clone(), config.clone());
            Ok(ShareOutput { machines, store, servers, clock, config, is_retry: false })
        });
        Ok(())
    }
}

struct ShareOutput {
    machines: Machines,
    store: Store,
    servers: Option<Servers>,
    clock: Clock,
    config: GuestShareConfig,
    /// The last write failed, so the runner writes the same batch again.
    is_retry: bool,
}

impl ShareOutput {
    /// Writes the machines that have changed and whose interval is over; with `all`, all that have changed.
    /// After a failure it goes on with the next machine.
    fn publish(&mut self, all: bool) -> Result<(), Error> {
        let now = self.clock.now();
        let mut failed = None;
        for machine in self.machines.iter_mut() {
            let due = machine.written.is_none_or(|written| now.since(written) >= self.config.interval);
            if !machine.is_changed || !(all || due || machine.is_gone()) {
                continue;
            }
            let message = machine.message(&self.clock);
            match self.store.write(&machine.directory, &message) {
                Ok(()) => (machine.is_changed, machine.written) = (false, Some(now)),
                Err(e) => failed = Some(e),
            }
            if let Some(servers) = &mut self.servers
                && let Err(e) =
                    servers.publish(&machine.directory, &self.store.socket(&machine.directory), message)
            {
                failed = Some(e);
            }
        }
        for directory in self.machines.remove_gone(now, self.config.keep) {
            if let Some(servers) = &mut self.servers {
                servers.end(&directory);
            }
            self.store.remove(&directory);
        }
        failed.map_or(Ok(()), Err)
    }
}

impl Output for ShareOutput {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if !self.is_retry {
            self.machines.add(batch, &self.clock);
        }
        let result = self.publish(false);
        self.is_retry = result.is_err();
        result
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.publish(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::testing::Rig;

    #[test]
    fn invalid_configurations_are_refused() {
        let rule =
            |machine: &str, pid, name: &str| ProcessRule { machine: machine.into(), pid, name: name.into() };
        let of = |processes| GuestShareConfig { processes, ..GuestShareConfig::default() };
        for (config, key) in [
            (GuestShareConfig { directory: PathBuf::new(), ..of(vec![]) }, "guest-share.directory"),
            (of(vec![rule("", 7, "")]), "guest-share.processes: machine is empty"),
            (of(vec![rule("web", 0, "")]), "guest-share.processes: web is any"),
        ] {
            let error = Rig::new().start::<GuestShare>(config).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }
}
