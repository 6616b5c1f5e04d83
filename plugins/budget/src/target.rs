//! The cgroup that a limit is about: which processes are in it, and what is done to it.

use wattrace_cgroup::{Cgroup, CpuLimit, Hierarchy, Signal};

use crate::config::LimitConfig;

/// The path of the cgroup of `limit`, if a process in the cgroup `path` belongs to it.
pub(crate) fn cgroup_of<'a>(limit: &LimitConfig, path: &'a str) -> Option<&'a str> {
    if !limit.cgroup.is_empty() {
        let wanted = limit.cgroup.trim_end_matches('/');
        let rest = path.strip_prefix(wanted)?;
        return (rest.is_empty() || rest.starts_with('/')).then(|| &path[..wanted.len()]);
    }
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        if part == limit.unit {
            return Some(&path[..end]);
        }
        end += 1;
    }
    None
}

/// A cgroup that exists.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) path: String,
    cgroup: Cgroup,
    cpu: Option<CpuLimit>,
}

impl Target {
    /// The cgroup at `path`. `own` is that of this process.
    ///
    /// # Errors
    /// It is gone, or contains this agent, which would limit itself.
    pub(crate) fn open(hierarchy: &Hierarchy, path: &str, own: &str) -> Result<Self, String> {
        let contains_us = own.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if contains_us {
            return Err("this agent runs in it: limit a cgroup beside it or within it".into());
        }
        let cgroup = hierarchy.cgroup(path).map_err(|e| e.to_string())?;
        Ok(Self { path: path.to_owned(), cgroup, cpu: None })
    }

    /// Lets it use `cpus` CPUs at most.
    ///
    /// # Errors
    /// It has no `cpu.max`, or it may not be written; the message has the remedy.
    pub(crate) fn slow_down(&mut self, cpus: f64) -> Result<(), String> {
        if self.cpu.is_none() {
            let limit = CpuLimit::of(self.cgroup.clone());
            self.cpu = Some(limit.map_err(|e| {
                format!("cpu.max: {e}: enable the controller `cpu` in the parent (systemd: CPUWeight=100)")
            })?);
        }
        let set = self.cpu.as_mut().map_or(Ok(()), |limit| limit.set(cpus));
        set.map_err(|e| format!("cpu.max: {e}: run as root, or delegate the cgroup to this user"))
    }

    /// Whether it is slowed down.
    pub(crate) fn is_slow(&self) -> bool {
        self.cpu.as_ref().is_some_and(|limit| limit.limit().is_some())
    }

    /// Restores `cpu.max`.
    pub(crate) fn set_free(&mut self) {
        self.cpu = None;
    }

    /// Asks its processes to end, or ends them.
    ///
    /// # Errors
    /// They cannot be listed.
    pub(crate) fn stop(&self, at_once: bool) -> Result<(), String> {
        let stopped = if at_once { self.cgroup.kill() } else { self.cgroup.signal(Signal::TERM) };
        stopped.map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_about_a_cgroup_and_all_cgroups_in_it() {
        let by_path = LimitConfig { cgroup: "/a.slice/b/".into(), ..LimitConfig::default() };
        let by_unit = LimitConfig { unit: "b.service".into(), ..LimitConfig::default() };
        for (limit, path, expected) in [
            (&by_path, "/a.slice/b", Some("/a.slice/b")),
            (&by_path, "/a.slice/b/c/d", Some("/a.slice/b")),
            (&by_path, "/a.slice/bc", None),
            (&by_path, "/a.slice", None),
            (&by_unit, "/system.slice/b.service", Some("/system.slice/b.service")),
            (&by_unit, "/x/b.service/payload", Some("/x/b.service")),
            (&by_unit, "/x/ab.service", None),
            (&by_unit, "/", None),
        ] {
            assert_eq!(cgroup_of(limit, path), expected, "{path}");
        }
    }

    #[test]
    fn a_cgroup_that_contains_the_agent_is_refused() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a/b", "a/bc"] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
            std::fs::write(root.path().join(path).join("cgroup.procs"), "").unwrap();
        }
        let open = |path, own| Target::open(&Hierarchy::at(root.path()), path, own);
        for own in ["/a/b", "/a/b/c"] {
            assert!(open("/a/b", own).unwrap_err().starts_with("this agent runs in it"));
        }
        assert_eq!(open("/a/b", "/a/bc").unwrap().path, "/a/b");
        assert!(open("/a/missing", "/").is_err());
        assert!(open("/a/../b", "/").unwrap_err().contains("no cgroup's path"));
    }
}
