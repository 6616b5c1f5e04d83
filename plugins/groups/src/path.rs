//! What a cgroup path says about a process: its container, pod, unit, job and machine. Pure functions over
//! text, one file per kind. Each has a table of the forms that runtimes, schedulers and systemd are known to
//! create, in the language of `path/form.rs`. The user and the process tree are not in the path: see
//! `processes.rs`.

mod container;
mod form;
mod job;
mod machine;
mod text;
mod unit;

use std::sync::Arc;

pub(crate) use container::{Container, Pod};
pub(crate) use job::{Job, Owner};
pub(crate) use machine::Machine;
pub(crate) use unit::Unit;

/// The groups that a process is in because of its cgroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathInfo {
    /// The cgroup itself.
    pub(crate) cgroup: Option<Arc<str>>,
    pub(crate) container: Option<Container>,
    pub(crate) pod: Option<Pod>,
    pub(crate) unit: Option<Unit>,
    pub(crate) job: Option<Job>,
    pub(crate) machine: Option<Machine>,
}

impl PathInfo {
    /// From one path.
    pub(crate) fn of(path: &str) -> Self {
        let folders = form::folders(path);
        let (container, pod) = container::find(&folders);
        Self {
            cgroup: Some(path.into()),
            unit: unit::find(path),
            job: job::find(&folders),
            machine: machine::find(&folders, container.is_some()),
            container,
            pod,
        }
    }

    /// From the process's path in the unified hierarchy (v2), completed by the paths in the v1 hierarchies
    /// that `/proc/PID/cgroup` lists. Each of these may know something else: Slurm uses `freezer`, Docker all
    /// but the unified one.
    pub(crate) fn of_all(unified: Option<&str>, proc_cgroup: &str) -> Self {
        let mut info = unified.map(Self::of).unwrap_or_default();
        let mut lines: Vec<_> = proc_cgroup.lines().filter_map(v1_line).collect();
        // systemd's own hierarchy knows most.
        lines.sort_by_key(|(controllers, _)| *controllers != "name=systemd");
        for (_, path) in &lines {
            info.complete(&Self { cgroup: None, ..Self::of(path) });
        }
        if unified.is_none_or(|path| path == "/") {
            // The deepest path of the v1 hierarchies; the first of those that are equally deep.
            let depth = |path: &str| path.split('/').filter(|piece| !piece.is_empty()).count();
            let deepest =
                lines.iter().rev().max_by_key(|(_, path)| depth(path)).filter(|(_, path)| depth(path) > 0);
            info.cgroup = deepest.map(|(_, path)| (*path).into()).or(info.cgroup);
        }
        info
    }

    /// Takes from `other` what is not known yet.
    pub(crate) fn complete(&mut self, other: &Self) {
        let other = other.clone();
        if self.cgroup.as_deref().is_none_or(|path| path == "/") {
            self.cgroup = other.cgroup.or(self.cgroup.take());
        }
        // A container and its pod come from the same path.
        if self.container.is_none() && self.pod.is_none() {
            (self.container, self.pod) = (other.container, other.pod);
        }
        self.unit = self.unit.take().or(other.unit);
        self.job = self.job.take().or(other.job);
        self.machine = self.machine.take().or(other.machine);
    }
}

/// The controllers and the path of a line of `/proc/PID/cgroup`, if it is about a v1 hierarchy.
fn v1_line(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    (!controllers.is_empty()).then_some((controllers, path))
}

/// Whether there are v1 hierarchies, by the content of `/proc/self/cgroup`.
pub(crate) fn has_v1(proc_cgroup: &str) -> bool {
    proc_cgroup.lines().any(|line| v1_line(line).is_some())
}

#[cfg(test)]
mod tests;
