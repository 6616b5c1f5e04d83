//! A cgroup of our own for a command: created below the cgroup of this process, and removed in the end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Cgroup, Hierarchy};

/// How often, and how far apart, the removal of a cgroup is tried.
const REMOVALS: usize = 100;
const REMOVAL_WAIT: Duration = Duration::from_millis(2);

/// The cgroup. Dropping it thaws it, moves what is left in it to the cgroup of this process, and removes it.
#[derive(Debug)]
pub struct ScopedCgroup {
    cgroup: Cgroup,
    parent: Cgroup,
    path: String,
}

impl ScopedCgroup {
    /// Creates the cgroup `name` below that of this process.
    ///
    /// # Errors
    /// There is no cgroup v2, or this process may not create a cgroup there.
    pub fn create(name: &str) -> io::Result<Self> {
        let own = Hierarchy::own_path()?;
        let parent = Hierarchy::find()?.cgroup(&own)?;
        let dir: PathBuf = parent.dir.join(name);
        fs::create_dir(&dir)?;
        let path = format!("{}/{name}", own.trim_end_matches('/'));
        let scoped = Self { cgroup: Cgroup { dir }, parent, path };
        // Where it exists it can be used: before Linux 5.2 it does not, and a command could not be paused.
        scoped.cgroup.freeze(false)?;
        Ok(scoped)
    }

    /// The cgroup.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Its path below the mount, which begins with a slash.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Drop for ScopedCgroup {
    fn drop(&mut self) {
        // What fails here leaves an empty cgroup behind, or processes in it that go on.
        let _ = self.cgroup.freeze(false);
        let mut all = self.cgroup.subtree();
        all.reverse();
        for cgroup in all {
            for pid in cgroup.processes().unwrap_or_default() {
                let _ = self.parent.add(pid);
            }
            remove(&cgroup.dir);
        }
    }
}

/// Removes the directory of a cgroup. Processes that are exiting stay in it for a moment.
fn remove(dir: &Path) {
    for _ in 0..REMOVALS {
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(REMOVAL_WAIT),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn a_command_is_paused_and_stopped_and_its_cgroup_is_removed() {
        let scoped = match ScopedCgroup::create(&format!("wattrace-test-{}", std::process::id())) {
            Ok(scoped) => scoped,
            Err(e) => return eprintln!("skipped: it may create no cgroup: {e}"),
        };
        let (cgroup, dir) = (scoped.cgroup().clone(), scoped.cgroup().dir().to_owned());
        assert_eq!(Hierarchy::find().unwrap().cgroup(scoped.path()).unwrap(), cgroup);
        let mut joins = cgroup.to_join().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 100 & wait"]);
        // SAFETY: the closure makes one system call.
        unsafe {
            use std::os::unix::process::CommandExt as _;
            command.pre_exec(move || joins.write_all(b"0"));
        }
        let mut child = command.spawn().unwrap();
        assert!(cgroup.processes().unwrap().contains(&child.id()));
        cgroup.freeze(true).unwrap();
        assert_eq!(cgroup.read("cgroup.freeze").unwrap().trim(), "1");
        cgroup.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        drop(scoped);
        // The kernel reaps the grandchild when it likes: it moves to the parent, or is gone.
        assert!(!dir.exists(), "{} is left", dir.display());
    }
}
