//! The memory of the rows that are shown: what a process has resident; what the kernel charges a group's
//! cgroup for; and where a group has none, the sum of what its processes have resident.

use std::collections::HashMap;

use wattrace_viewer::{Consumer, Key, Kind, Model};

use crate::facts::Facts;

/// The memory of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Of one process, bytes.
    Resident(u64),
    /// Of a cgroup, with its page cache, bytes.
    Cgroup(u64),
    /// Of so many processes, bytes. What they share counts for each.
    Sum(u64, usize),
}

impl Memory {
    pub(crate) fn bytes(self) -> u64 {
        let (Memory::Resident(bytes) | Memory::Cgroup(bytes) | Memory::Sum(bytes, _)) = self;
        bytes
    }
}

/// Whether groups of a kind have cgroups of their own.
pub(crate) fn has_cgroups(kind: Kind) -> bool {
    matches!(kind, Kind::Unit | Kind::Container | Kind::Pod | Kind::Job)
}

/// The memory of each of these consumers, as far as it is known.
pub(crate) fn of(model: &Model, keys: &[Key], facts: &mut dyn Facts) -> HashMap<Key, Memory> {
    let members = model.members(keys);
    let known = members.iter().filter_map(|(&key, members)| {
        let group = model.consumer(key)?;
        Some((key, of_one(group, members, facts)?))
    });
    known.collect()
}

fn of_one(group: &Consumer, members: &[&Consumer], facts: &mut dyn Facts) -> Option<Memory> {
    if group.kind() == Kind::Process {
        let pid = group.id().parse().ok().filter(|_| !group.has_ended())?;
        return facts.memory(pid).map(Memory::Resident);
    }
    let cgroup = members.first().and_then(|member| member.attributes().get("process.linux.cgroup"));
    if has_cgroups(group.kind())
        && let Some(path) = cgroup.and_then(|path| cgroup_of(group.kind(), group.id(), path))
        && let Some(bytes) = facts.memory_of_cgroup(path)
    {
        return Some(Memory::Cgroup(bytes));
    }
    let pids = members.iter().filter_map(|member| member.id().parse().ok());
    let resident: Vec<u64> = pids.filter_map(|pid| facts.memory_of_one_of_many(pid)).collect();
    (!resident.is_empty()).then(|| Memory::Sum(resident.iter().sum(), resident.len()))
}

/// The cgroup of a group, at or above that of one of its processes: the first on the way down that has the
/// group's id in its name.
fn cgroup_of<'a>(kind: Kind, id: &str, path: &'a str) -> Option<&'a str> {
    let prefix = if kind == Kind::Pod { "pod" } else { "" };
    // The names of slices have underscores where a pod's id has hyphens.
    let ids = [format!("{prefix}{id}"), format!("{prefix}{}", id.replace('-', "_"))];
    let mut end = 0;
    for name in path.split_inclusive('/') {
        end += name.len();
        if ids.iter().any(|id| is_named(name.trim_end_matches('/'), id)) {
            return Some(path[..end].trim_end_matches('/'));
        }
    }
    None
}

/// Whether `id` is a part of `name`, and not only of a longer word in it: job `4` is not in `uid_1042`.
fn is_named(name: &str, id: &str) -> bool {
    let is_end = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    name.match_indices(id)
        .any(|(at, _)| is_end(name[..at].chars().next_back()) && is_end(name[at + id.len()..].chars().next()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_viewer::testing::Machine;

    #[test]
    fn a_group_has_the_first_cgroup_that_is_named_for_it() {
        let pod = "/kubepods.slice/kubepods-besteffort-pod6f1c_2d3e.slice";
        for (kind, id, path, expected) in [
            (
                Kind::Unit,
                "nginx.service",
                "/system.slice/nginx.service/worker",
                Some("/system.slice/nginx.service"),
            ),
            (
                Kind::Container,
                "4f5c1d",
                "/system.slice/docker-4f5c1d.scope",
                Some("/system.slice/docker-4f5c1d.scope"),
            ),
            (Kind::Job, "42", "/slurm/uid_1042/job_42/step_0", Some("/slurm/uid_1042/job_42")),
            (Kind::Pod, "6f1c-2d3e", &format!("{pod}/cri-containerd-4f5c.scope"), Some(pod)),
            (Kind::Pod, "6f1c-2d3e", "/kubepods/pod6f1c-2d3e/4f5c", Some("/kubepods/pod6f1c-2d3e")),
            (Kind::Unit, "ssh.service", "/system.slice/nginx.service", None),
            (Kind::Unit, "ssh.service", "/", None),
        ] {
            assert_eq!(cgroup_of(kind, id, path), expected, "{path}");
        }
    }

    /// What a kernel would say: a process has its pid in bytes.
    struct SimulatedFacts {
        cgroup: Option<u64>,
    }

    impl Facts for SimulatedFacts {
        fn memory(&mut self, pid: u32) -> Option<u64> {
            Some(pid.into())
        }

        fn memory_of_cgroup(&mut self, path: &str) -> Option<u64> {
            self.cgroup.filter(|_| path == "/system.slice/docker.service")
        }

        fn process(&mut self, _pid: u32) -> Option<crate::ProcessFacts> {
            None
        }
    }

    #[test]
    fn a_unit_has_its_cgroups_memory_and_without_one_that_of_its_processes() {
        let mut machine = Machine::office();
        machine.run(2);
        let model = machine.model();
        let of_row = |kind, id: &str, cgroup| {
            let (key, _) = model.consumers().find(|(_, c)| c.kind() == kind && c.id() == id).unwrap();
            of(model, &[key], &mut SimulatedFacts { cgroup }).remove(&key)
        };
        assert_eq!(of_row(Kind::Unit, "docker.service", Some(99)), Some(Memory::Cgroup(99)));
        assert_eq!(of_row(Kind::Unit, "docker.service", None), Some(Memory::Sum(7001 + 7002, 2)));
        assert_eq!(of_row(Kind::Program, "rustc", Some(99)), Some(Memory::Sum(5120 + 5123, 2)));
        assert_eq!(
            of_row(Kind::User, "root", Some(99)).map(Memory::bytes),
            Some(911 + 14_003 + 801 + 402 + 61)
        );
        assert_eq!(of_row(Kind::Process, "5120", None), Some(Memory::Resident(5120)));
        assert_eq!(Memory::Sum(5, 2).bytes(), 5);
    }
}
