//! The `groups` plugin: sums processes into the containers, pods, systemd units, batch jobs, virtual
//! machines, users, cgroups and process trees that they are in, and gives each process attributes that name
//! its groups.
//!
//! | module | holds |
//! | --- | --- |
//! | `config`, `level` | the keys of `[plugins.groups]`; the ways of dividing processes |
//! | `path` | what a cgroup path says: pure functions |
//! | `tree` | a process's oldest ancestor |
//! | `facts` | what decides about a process's groups, and the attributes that follow |
//! | `processes` | the processes, and the groups that each is in now |
//! | `table` | the groups, and their counters |
//! | `transform` | the pipeline element: from a process's increment to its groups' counters |
//! | `names` | names from container engines, Kubernetes and the user database |
//! | [`fuzzing`] | everything that parses text of others, for fuzzers |
//!
//! # Why the sums are exact
//!
//! Every level divides all processes: each increment of a process's counter goes into exactly one consumer of
//! each level, in whole steps. A process that is in no group of a level (outside of any container) counts to
//! the level's *rest*, a consumer of the level's kind with an empty id. So for every metric, resource and
//! domain, and at any time,
//!
//! > the sum over a level's consumers, including those that have ended = the sum over all processes
//!
//! exactly. Together with `idle`, `irq`, `other` and `unattributed`, which pass unchanged and are in no
//! level, it is what was measured. A level that has never had a group shows nothing, not even its rest. The
//! rest appears with the first group, with everything that it has counted since the beginning.
//!
//! A container is wholly in one pod (both are read from one path), so a pod is the sum of its containers and
//! of what else runs in it. Cgroups are leaves: a cgroup is the sum of the processes that are directly in it.
//!
//! When a process moves to another cgroup, what it uses from then on counts there: an increment belongs to
//! the groups that the process is in when the increment arrives. A group is (kind, id, when it was first
//! seen); it ends some time (`linger`) after its last process.

mod config;
mod facts;
#[doc(hidden)]
pub mod fuzzing;
mod level;
mod names;
mod path;
mod processes;
mod table;
mod transform;
mod tree;

use wattrace_api::{Attribute, Error, Finding, Plugin, Setup};
use wattrace_procfs::Procfs;

pub use config::{GroupsConfig, Kubernetes};
pub use level::Level;

/// The plugin.
#[derive(Debug)]
pub struct Groups;

impl Plugin for Groups {
    const NAME: &'static str = "groups";
    const DESCRIPTION: &'static str = "sums processes into containers, pods, units, jobs, machines and users";
    type Config = GroupsConfig;
    const NETWORK_KEYS: &'static [&'static str] = &config::NETWORK_KEYS;

    fn start(config: GroupsConfig, setup: &mut Setup) -> Result<(), Error> {
        config.check()?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        setup.transform("processes", move || {
            let names = names::Names::open(&config, &runtime);
            let (registry, clock, procfs) = (registry.clone(), clock.clone(), Procfs::default());
            Ok(transform::Transformer::new(&config, registry, clock, procfs, names))
        });
        Ok(())
    }

    fn diagnose(config: &GroupsConfig) -> Vec<Finding> {
        names::diagnose(config)
    }
}

/// The attributes that name the groups of a process, as far as the text of its `/proc/PID/cgroup` does: its
/// unit, container, pod, job and machine.
pub fn attributes_of(proc_cgroup: &str) -> Vec<Attribute> {
    let unified = proc_cgroup.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path::PathInfo::of_all(unified, proc_cgroup);
    facts::Facts { path: path.into(), ..facts::Facts::default() }.of_process()
}

/// The id of the container that the engines of `config` know under `name`; `None`: none knows it.
///
/// # Errors
/// An engine does not answer.
pub async fn container_id(config: &GroupsConfig, name: &str) -> Result<Option<String>, String> {
    names::engine::Engines::new(&config.engines).id_of(name).await
}
