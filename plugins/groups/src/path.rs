//! What a cgroup's path says about a process: its container, pod, unit, job and machine. Pure functions over
//! text, one file for each kind; the paths' forms are those that the runtimes and systemd are known to make
//! (`path/tests.rs` has them all). Who else a process belongs to, its user and its tree, is not in the path:
//! see `members.rs`.

mod container;
mod job;
mod machine;
mod unit;

use std::sync::Arc;

pub(crate) use container::{Container, Pod};
pub(crate) use job::{Job, Owner};
pub(crate) use machine::Machine;
pub(crate) use unit::Unit;

/// The groups that a process's place in the cgroup tree puts it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The cgroup itself.
    pub(crate) cgroup: Option<Arc<str>>,
    pub(crate) container: Option<Container>,
    pub(crate) pod: Option<Pod>,
    pub(crate) unit: Option<Unit>,
    pub(crate) job: Option<Job>,
    pub(crate) machine: Option<Machine>,
}

impl Place {
    /// What one path says.
    pub(crate) fn of(path: &str) -> Self {
        let (container, pod) = container::find(path);
        Self {
            cgroup: Some(path.into()),
            container,
            pod,
            unit: unit::find(path),
            job: job::find(path),
            machine: machine::find(path),
        }
    }

    /// What the process's path in the unified hierarchy (v2) says and, where that is silent, what
    /// `/proc/PID/cgroup` says of the others (v1), each of which may know something else: Slurm uses
    /// `freezer`, Docker all but the unified one.
    pub(crate) fn of_all(unified: Option<&str>, proc_cgroup: &str) -> Self {
        let mut place = unified.map(Self::of).unwrap_or_default();
        let mut lines: Vec<_> = proc_cgroup.lines().filter_map(legacy).collect();
        // systemd's own hierarchy knows most.
        lines.sort_by_key(|(controllers, _)| *controllers != "name=systemd");
        for (_, path) in &lines {
            place.complete(&Self { cgroup: None, ..Self::of(path) });
        }
        if unified.is_none_or(|path| path == "/") {
            // The most particular of the others, the first of those that are equally so.
            let depth = |path: &str| path.split('/').filter(|piece| !piece.is_empty()).count();
            let deepest =
                lines.iter().rev().max_by_key(|(_, path)| depth(path)).filter(|(_, path)| depth(path) > 0);
            place.cgroup = deepest.map(|(_, path)| (*path).into()).or(place.cgroup);
        }
        place
    }

    /// Takes from `other` what it does not know itself.
    pub(crate) fn complete(&mut self, other: &Self) {
        let other = other.clone();
        if self.cgroup.as_deref().is_none_or(|path| path == "/") {
            self.cgroup = other.cgroup.or(self.cgroup.take());
        }
        // A container and its pod are told by the same path.
        if self.container.is_none() && self.pod.is_none() {
            (self.container, self.pod) = (other.container, other.pod);
        }
        self.unit = self.unit.take().or(other.unit);
        self.job = self.job.take().or(other.job);
        self.machine = self.machine.take().or(other.machine);
    }
}

/// A line of `/proc/PID/cgroup` about a v1 hierarchy: its controllers and the path.
fn legacy(line: &str) -> Option<(&str, &str)> {
    let (_, rest) = line.split_once(':')?;
    let (controllers, path) = rest.split_once(':')?;
    (!controllers.is_empty()).then_some((controllers, path))
}

/// Whether a machine, by its `/proc/self/cgroup`, has v1 hierarchies that know more than the unified one.
pub(crate) fn has_legacy(proc_cgroup: &str) -> bool {
    proc_cgroup.lines().any(|line| legacy(line).is_some())
}

/// The names between the slashes.
fn pieces(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|piece| !piece.is_empty())
}

/// A number that is nothing but digits.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A name as it was before systemd escaped it: `machine-qemu\x2d1` for `machine-qemu-1`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escape = tail.get(..3).filter(|e| *first == b'\\' && e[0] == b'x');
        // Reading numbers takes a sign as well.
        let code = escape.filter(|e| e[1..].iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|e| std::str::from_utf8(&e[1..]).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests;
