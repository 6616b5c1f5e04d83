//! `guest-share`, on the host: an output that keeps, for each virtual machine, a small file with the energy
//! that was attributed to it. Whose energy is which machine's is kept in `share/books.rs`, the files in
//! `share/store.rs`.

mod books;
mod serve;
mod store;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wattrace_api::{Batch, Clock, Error, Output, Plugin, Setup};

use self::books::Books;
use self::serve::Servers;
use self::store::Store;

/// The plugin.
#[derive(Debug)]
pub struct GuestShare;

/// `[plugins.guest-share]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuestShareConfig {
    /// The directory of the machines' directories: machine `web` has `web/share.json`. Let each machine see
    /// its own only.
    pub directory: PathBuf,
    /// Whether each machine's directory also has a unix socket, `share.sock`, that gives the same line to
    /// whoever connects.
    pub socket: bool,
    /// The machines to share with, by the names or ids of consumers of the type `machine`; empty: all of
    /// them.
    pub machines: Vec<String>,
    /// Machines that are processes, where nothing tells of machines.
    pub processes: Vec<ProcessRule>,
    /// Least time between two writings of a file; "0s": whenever there is news.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long the file of a machine stays that is gone.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
}

/// A process that is a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessRule {
    /// The machine's name.
    pub machine: String,
    /// The process's number; 0: any.
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
        "Tells each virtual machine its share of the energy, in a file of its own";
    type Config = GuestShareConfig;

    // Whoever writes files waits to be asked.
    fn on_by_default() -> bool {
        false
    }

    fn start(config: GuestShareConfig, setup: &mut Setup) -> Result<(), Error> {
        config.validate()?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        setup.output("machines", move || {
            let store = Store::new(&config.directory);
            let books = Books::open(&config, registry.clone(), &clock, store.read_all())?;
            let servers = config.socket.then(|| Servers::new(runtime.clone(), clock.clone()));
            Ok(ShareOutput { books, store, servers, clock: clock.clone(), config: config.clone() })
        });
        Ok(())
    }
}

struct ShareOutput {
    books: Books,
    store: Store,
    servers: Option<Servers>,
    clock: Clock,
    config: GuestShareConfig,
}

impl ShareOutput {
    /// Writes what is new, if it is time or if `all` is asked for. One that fails keeps no other from being
    /// written.
    fn publish(&mut self, all: bool) -> Result<(), Error> {
        let now = self.clock.now();
        let mut failed = None;
        for machine in self.books.machines() {
            let due = machine.written.is_none_or(|written| now.since(written) >= self.config.interval);
            if !machine.is_new || !(all || due || machine.is_gone()) {
                continue;
            }
            let message = machine.message(&self.clock);
            match self.store.write(&machine.directory, &message) {
                Ok(()) => (machine.is_new, machine.written) = (false, Some(now)),
                Err(e) => failed = Some(e),
            }
            if let Some(servers) = &mut self.servers
                && let Err(e) =
                    servers.tell(&machine.directory, &self.store.socket(&machine.directory), message)
            {
                failed = Some(e);
            }
        }
        for directory in self.books.forget(now, self.config.keep) {
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
        self.books.take(batch, &self.clock);
        self.publish(false)
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
    fn senseless_configurations_do_not_start() {
        let rule =
            |machine: &str, pid, name: &str| ProcessRule { machine: machine.into(), pid, name: name.into() };
        let of = |processes| GuestShareConfig { processes, ..GuestShareConfig::default() };
        for (config, key) in [
            (GuestShareConfig { directory: PathBuf::new(), ..of(vec![]) }, "guest-share.directory"),
            (of(vec![rule("", 7, "")]), "guest-share.processes: machine is empty"),
            (of(vec![rule("web", 0, "")]), "guest-share.processes: web is any"),
        ] {
            let refused = Rig::new().start::<GuestShare>(config).unwrap_err().to_string();
            assert!(refused.contains(key), "{refused}");
        }
    }
}
