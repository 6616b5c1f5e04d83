//! The processes that run now, by /proc: those that were asleep since the attachment are in no record.

use std::fs;

use wattrace_api::Attribute;
use wattrace_api::text::printable;
use wattrace_procfs::Procfs;

use super::names::attributes_of;

/// A process.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) pid: u32,
    pub(super) parent: u32,
    /// In ticks since boot: with the pid, it identifies the process.
    pub(super) start_ticks: u64,
    /// What is known of it, under the names that the plugins `sched` and `groups` use.
    pub(super) attributes: Vec<Attribute>,
}

impl Running {
    /// All of them but this one, in the order of their pids.
    pub(super) fn all(procfs: &Procfs) -> Vec<Self> {
        let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        let entries = fs::read_dir(procfs.root()).into_iter().flatten().flatten();
        let mut pids: Vec<u32> = entries.filter_map(number).collect();
        pids.sort_unstable();
        let own = std::process::id();
        pids.into_iter().filter(|&pid| pid != own).filter_map(|pid| Self::read(procfs, pid)).collect()
    }

    /// The process `pid`; `None` if there is none, or only a zombie of it.
    pub(super) fn read(procfs: &Procfs, pid: u32) -> Option<Self> {
        let stat = procfs.stat(pid).filter(|stat| !stat.is_zombie())?;
        let mut attributes = vec![Attribute::new("wattrace.process.comm", &*stat.comm)];
        let path = procfs.executable(pid);
        attributes.extend(path.map(|path| Attribute::new("process.executable.path", &*path)));
        let cgroups = procfs.cgroups(pid).unwrap_or_default();
        let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
        attributes.extend(unified.map(|path| Attribute::new("process.linux.cgroup", path)));
        attributes.extend(attributes_of(&cgroups));
        Some(Self { pid, parent: stat.parent, start_ticks: stat.start_ticks, attributes })
    }

    /// What people call it: the file of its program, or the kernel's name.
    pub(super) fn name(&self) -> String {
        self.names().into_iter().next().unwrap_or_default()
    }

    /// The file of its program, and the kernel's name.
    pub(super) fn names(&self) -> Vec<String> {
        let text = |key: &str| {
            let attribute = self.attributes.iter().find(|attribute| attribute.key == key);
            attribute.map(|attribute| attribute.value.to_string())
        };
        let file = text("process.executable.path");
        let file = file.as_deref().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        let names = file.into_iter().chain(text("wattrace.process.comm"));
        names.map(|name| printable(&name).into_owned()).collect()
    }

    /// Whether it runs still.
    pub(super) fn is_alive(&self, procfs: &Procfs) -> bool {
        let stat = procfs.stat(self.pid);
        stat.is_some_and(|stat| stat.start_ticks == self.start_ticks && !stat.is_zombie())
    }
}
