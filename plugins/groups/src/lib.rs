//! The `groups` plugin: sums processes into the containers, pods, systemd units, batch jobs, virtual
//! machines, users, cgroups and process trees that they are in, and tells each process its own.
//!
//! | module | holds |
//! | --- | --- |
//! | `path` | what a cgroup's path says: pure functions |
//! | `tree`, `proc` | a process's oldest ancestor; what only /proc knows |
//! | `facts` | all that is known of a process or group, as attributes |
//! | `members` | the processes, and the groups that each is in now |
//! | `books` | the groups, and their counters |
//! | `transform` | the pipeline element: from a process's increment to its groups' counters |
//! | `names` | asks container engines, Kubernetes and the user database for names, beside the pipeline |
//! | [`fuzzing`] | everything that reads text of others, for fuzzers |
//!
//! # How the sums close
//!
//! Every level divides all processes: each increment of a process's counter goes into exactly one consumer of
//! each level, in whole steps. What is in no group of a level (a process outside of any container) goes into
//! the level's *rest*, a consumer of the level's kind with an empty id. So for every metric, resource and
//! domain, and at any time,
//!
//! > the sum over a level's consumers, those that have ended included = the sum over all processes
//!
//! exactly; and with `idle`, `irq`, `other` and `unattributed`, which pass untouched and are in no level, it
//! is what was measured. A level that has never had a group says nothing, not even its rest; its first group
//! brings the rest with it, with all that it has summed since the beginning.
//!
//! A container is wholly in one pod (both are read from one path), so a pod is the sum of its containers and
//! of what runs in it beside them. Cgroups are leaves: a cgroup is the sum of the processes that are directly
//! in it.
//!
//! A process that moves from one cgroup to another takes with it what it uses from then on: an increment
//! belongs where the process is when it is told. A group is (kind, id, when it was first seen); it ends some
//! time (`linger`) after its last process has.

mod books;
mod config;
mod facts;
#[doc(hidden)]
pub mod fuzzing;
mod members;
mod names;
mod path;
mod proc;
mod transform;
mod tree;

use std::path::Path;

use wattrace_api::{Error, Finding, Plugin, Setup};

pub use config::{GroupsConfig, Kubernetes, Level};

/// The plugin.
#[derive(Debug)]
pub struct Groups;

impl Plugin for Groups {
    const NAME: &'static str = "groups";
    const DESCRIPTION: &'static str = "sums processes into containers, pods, units, jobs, machines and users";
    type Config = GroupsConfig;

    fn start(config: GroupsConfig, setup: &mut Setup) -> Result<(), Error> {
        config.check()?;
        let (registry, clock, runtime) = (setup.registry(), setup.clock(), setup.runtime());
        setup.transform("processes", move || {
            let proc = proc::Proc::open(Path::new("/proc"));
            let names = names::Names::open(&config, &runtime);
            Ok(transform::Transformer::new(&config, registry.clone(), clock.clone(), proc, names))
        });
        Ok(())
    }

    fn diagnose(config: &GroupsConfig) -> Vec<Finding> {
        names::diagnose(config)
    }
}
