//! Acts on the processes of a cgroup v2: pauses, limits, signals and stops them. `exec --budget` does so with
//! a cgroup of its own ([`ScopedCgroup`]), the plugin `budget` with cgroups that its configuration names
//! ([`CpuLimit`]). And finds the paths of the ids that kernel programs give ([`CgroupIds`]).
//!
//! Only files that every cgroup v2 has are needed to pause (`cgroup.freeze`, Linux 5.2), stop (`cgroup.kill`,
//! 5.14) and list. `cpu.max` is there if the controller `cpu` is enabled in the parent.

mod cpu_limit;
mod ids;
mod scoped;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Component, Path, PathBuf};

use rustix::process::{Pid, kill_process};

pub use cpu_limit::CpuLimit;
pub use ids::CgroupIds;
pub use rustix::process::Signal;
pub use scoped::ScopedCgroup;

/// Rounds in which a cgroup's processes are signalled one by one: each finds those that were forked since.
const ROUNDS: usize = 16;

/// Where cgroup v2 is mounted.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    mount: PathBuf,
}

impl Hierarchy {
    /// The mounted one.
    ///
    /// # Errors
    /// `/proc/self/mounts` cannot be read, or lists none.
    pub fn find() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let point = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| point.to_owned())
        });
        point.map(Self::at).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "cgroup v2 is not mounted"))
    }

    /// The one that is mounted at `mount`.
    pub fn at(mount: impl Into<PathBuf>) -> Self {
        Self { mount: mount.into() }
    }

    /// The cgroup at `path`, which begins with a slash, below the mount.
    ///
    /// # Errors
    /// `path` leads out of the hierarchy, or there is no such cgroup.
    pub fn cgroup(&self, path: &str) -> io::Result<Cgroup> {
        let below = Path::new(path.trim_start_matches('/'));
        if !below.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is no cgroup's path")));
        }
        let dir = self.mount.join(below);
        fs::metadata(dir.join("cgroup.procs"))?;
        Ok(Cgroup { dir })
    }

    /// The path of this process's cgroup.
    ///
    /// # Errors
    /// `/proc/self/cgroup` cannot be read, or has no line of cgroup v2.
    pub fn own_path() -> io::Result<String> {
        let lines = fs::read_to_string("/proc/self/cgroup")?;
        let own = lines.lines().find_map(|line| line.strip_prefix("0::"));
        own.map(str::to_owned)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "this process is in no cgroup v2"))
    }
}

/// A cgroup: processes that are treated as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    dir: PathBuf,
}

impl Cgroup {
    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes to a file of it, which exists: nothing is created where no cgroup is.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).truncate(true).open(self.file(name))?;
        io::Write::write_all(&mut file, text.as_bytes())
    }

    fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.file(name))
    }

    /// Its `cgroup.procs`, to write: a process that writes `0` to it joins the cgroup.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn to_join(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.file("cgroup.procs"))
    }

    /// Moves a process into it.
    ///
    /// # Errors
    /// The process is gone, or may not be moved.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// The processes directly in it.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn processes(&self) -> io::Result<Vec<u32>> {
        Ok(self.read("cgroup.procs")?.lines().filter_map(|pid| pid.parse().ok()).collect())
    }

    /// The cgroups within it, at any depth, and itself: those of a level after those above it.
    pub fn subtree(&self) -> Vec<Cgroup> {
        let mut all = vec![self.clone()];
        let mut next = 0;
        while let Some(parent) = all.get(next) {
            next += 1;
            let entries = fs::read_dir(&parent.dir).into_iter().flatten().flatten();
            let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let children: Vec<_> = dirs.map(|entry| Cgroup { dir: entry.path() }).collect();
            all.extend(children);
        }
        all
    }

    /// Lets none of its processes run, at any depth, or all of them again. Pending signals wait, but SIGKILL.
    ///
    /// # Errors
    /// The kernel has no `cgroup.freeze`, or it may not be written.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Sends a signal to each of its processes, at any depth.
    ///
    /// # Errors
    /// The processes cannot be listed.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let mut signalled = Vec::new();
        for _ in 0..ROUNDS {
            let before = signalled.len();
            for cgroup in self.subtree() {
                for pid in cgroup.processes()? {
                    if !signalled.contains(&pid) {
                        signalled.push(pid);
                        // An error means that it is gone.
                        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
                        let _ = pid.map(|pid| kill_process(pid, signal));
                    }
                }
            }
            if signalled.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// Ends all its processes, at any depth, by SIGKILL.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn kill(&self) -> io::Result<()> {
        // Before Linux 5.14 there is no such file.
        self.write("cgroup.kill", "1").or_else(|_| self.signal(Signal::KILL))
    }

    /// Whether its use of CPUs can be limited.
    pub fn has_cpu_limit(&self) -> bool {
        self.file("cpu.max").exists()
    }
}
