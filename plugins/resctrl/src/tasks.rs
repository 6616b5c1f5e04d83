//! Which processes are in which group: lists the tasks of every group when that may have changed, and hands
//! them to whoever divides the group's energy ([`Members`]). `groups.rs` finds the groups.
//!
//! Reading a group's `tasks` makes the kernel look at every thread of the machine, and each line is a thread
//! of whose process `/proc` must be asked. But a task changes its group only when somebody writes to a
//! group's files, which inotify reports, or when a group is removed; and children are in their parent's
//! group, which [`Members`] knows. So this happens rarely, whatever the interval of the meter.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify;
use tracing::{debug, warn};
use wattrace_api::files::{open_regular, read_open};
use wattrace_api::privilege::for_kernel_file;
use wattrace_api::{Clock, Members, Timestamp};
use wattrace_procfs::Procfs;

use crate::groups::Group;
use crate::tally::GroupId;

/// Groups are listed that often although nobody wrote to them: against what was missed.
const MAX_AGE: Duration = Duration::from_secs(60);
/// And that often where writes are not reported.
const MAX_AGE_UNWATCHED: Duration = Duration::from_secs(10);
/// With so many children that were born since, they are listed again, so that those that exited are
/// forgotten.
const MANY_CHILDREN: usize = 4096;
/// No `tasks` is longer: four million threads.
const MAX_TASKS: u64 = 32 << 20;

/// The members of all groups.
#[derive(Debug)]
pub(crate) struct Tasks {
    procfs: Procfs,
    groups: HashMap<GroupId, Members>,
    /// Reports writes to the groups' files; `None`: that is not possible.
    writes: Option<OwnedFd>,
    /// When the groups were listed.
    listed: Option<Timestamp>,
    /// They changed just before they were listed: what was on its way then is seen by listing them again.
    again: bool,
    warned: bool,
}

impl Tasks {
    /// No groups yet. Processes are looked up in `procfs`.
    pub(crate) fn new(procfs: Procfs) -> Self {
        let writes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC);
        let writes = writes.inspect_err(|e| debug!("writes to groups are not reported: {e}")).ok();
        Self { procfs, groups: HashMap::new(), writes, listed: None, again: false, warned: false }
    }

    /// The members of `group`.
    pub(crate) fn members(&mut self, group: &Group) -> Members {
        self.groups.entry(group.id()).or_default().clone()
    }

    /// Lists the members of the groups in `found` if they may have changed.
    pub(crate) fn update(&mut self, found: &[Group], clock: &Clock) {
        let now = clock.now();
        // Not short-circuited: each takes note of what it sees.
        let changed = self.follow(found) | self.take_writes();
        let max_age = if self.writes.is_some() { MAX_AGE } else { MAX_AGE_UNWATCHED };
        let is_due = self.listed.is_none_or(|listed| now.since(listed) >= max_age)
            || self.groups.values().any(|members| members.children() >= MANY_CHILDREN);
        if changed || is_due || self.again {
            self.again = changed;
            self.listed = Some(now);
            self.list(found, clock);
        }
    }

    /// Forgets the groups that are gone, and watches those that are new. Returns whether there were any.
    fn follow(&mut self, found: &[Group]) -> bool {
        let before = self.groups.len();
        self.groups.retain(|id, _| found.iter().any(|group| group.id() == *id));
        let mut changed = self.groups.len() < before;
        for group in found {
            if self.groups.contains_key(&group.id()) {
                continue;
            }
            changed = true;
            self.groups.insert(group.id(), Members::default());
            let watch = |fd: &OwnedFd| {
                for_kernel_file(&group.path, || {
                    inotify::add_watch(fd, &group.path, inotify::WatchFlags::MODIFY)
                })
            };
            if let Some(Err(e)) = self.writes.as_ref().map(watch) {
                debug!("{}: writes are not reported: {e}", group.path.display());
                self.writes = None;
            }
        }
        changed
    }

    /// Whether somebody wrote to a file of a group.
    fn take_writes(&self) -> bool {
        let Some(fd) = &self.writes else { return false };
        let (mut buffer, mut wrote) = ([MaybeUninit::uninit(); 4096], false);
        // Events that did not fit into the kernel's queue are one event, too.
        while rustix::io::read(fd, &mut buffer).is_ok_and(|(events, _)| !events.is_empty()) {
            wrote = true;
        }
        wrote
    }

    fn list(&mut self, found: &[Group], clock: &Clock) {
        let mut processes = Processes { procfs: &self.procfs, of_thread: HashMap::new() };
        for group in found {
            let Some(members) = self.groups.get(&group.id()).filter(|_| !group.name.is_empty()) else {
                continue;
            };
            match list(&group.path, &mut processes) {
                Ok(listed) => members.list(clock.now(), clock.unix_nanos(clock.now()), listed),
                // Of a group that is being removed.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if std::mem::replace(&mut self.warned, true) => debug!("{e}"),
                Err(e) => warn!("the energy of {} is divided among nobody: {e}", group.name),
            }
        }
    }
}

/// The process of each thread, and how many threads it has, looked up once for all groups.
struct Processes<'a> {
    procfs: &'a Procfs,
    of_thread: HashMap<u32, Option<(u32, u32)>>,
}

/// The processes with a thread in the group at `path`: each with the part of its threads that are. Nobody
/// where CPUs are assigned to the group: its energy is then also that of others that run there.
fn list(path: &Path, processes: &mut Processes) -> io::Result<Vec<(u32, f64)>> {
    let cpus = read(&path.join("cpus_list")).unwrap_or_default();
    if !cpus.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut threads: HashMap<u32, (u32, u32)> = HashMap::new();
    for line in read(&path.join("tasks"))?.lines() {
        let Ok(thread) = line.trim().parse() else { continue };
        let procfs = processes.procfs;
        let process = processes.of_thread.entry(thread).or_insert_with(|| procfs.process_of_thread(thread));
        if let Some((pid, all)) = *process {
            threads.entry(pid).or_insert((0, all)).0 += 1;
        }
    }
    let part = |(pid, (here, all))| (pid, (f64::from(here) / f64::from(all)).min(1.0));
    Ok(threads.into_iter().map(part).collect())
}

fn read(path: &Path) -> io::Result<String> {
    let shown = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
    read_open(for_kernel_file(path, || open_regular(path)).map_err(shown)?, MAX_TASKS).map_err(shown)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use wattrace_api::Window;

    use super::*;

    /// A simulated group and a simulated /proc.
    struct Scene {
        root: tempfile::TempDir,
        tasks: Tasks,
        clock: Clock,
    }

    impl Scene {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let tasks = Tasks::new(Procfs::at(root.path().join("proc")));
            let scene = Self { root, tasks, clock: Clock::manual(Timestamp(0)) };
            scene.write("web/tasks", "");
            scene
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Process `pid` with its threads.
        fn process(&self, pid: u32, threads: &[u32]) {
            for thread in std::iter::once(&pid).chain(threads) {
                let status = format!("Name:\tx\nTgid:\t{pid}\nThreads:\t{}\n", threads.len() + 1);
                self.write(&format!("proc/{thread}/status"), &status);
            }
        }

        fn groups(&self) -> Vec<Group> {
            let (name, path) = ("web".to_owned(), self.root.path().join("web"));
            vec![Group { name, path, inode: 1, parent: None, packages: Vec::new() }]
        }

        /// The parts of `pids` after an update at `second`.
        fn parts<const N: usize>(&mut self, second: u64, pids: [u32; N]) -> [f64; N] {
            let (now, groups) = (Timestamp(second * 1_000_000_000), self.groups());
            self.clock.set(now);
            self.tasks.update(&groups, &self.clock);
            let members = self.tasks.members(&groups[0]);
            let during = members.during(Window::new(now, Timestamp(now.0 + 1)));
            pids.map(|pid| during.part((pid, 0)))
        }
    }

    #[test]
    fn a_process_counts_by_the_part_of_its_threads() {
        let mut scene = Scene::new();
        scene.process(10, &[]);
        scene.process(20, &[21, 22, 23]);
        // 99 has exited.
        scene.write("web/tasks", "10\n21\n99\n");
        assert_eq!(scene.parts(0, [10, 20, 21, 99]), [1.0, 0.25, 0.0, 0.0]);
    }

    #[test]
    fn groups_are_listed_after_a_write_and_once_more_and_else_once_a_minute() {
        let mut scene = Scene::new();
        scene.process(10, &[]);
        assert_eq!(scene.parts(0, [10]), [0.0]);
        scene.write("web/tasks", "10\n");
        assert_eq!(scene.parts(1, [10]), [1.0]);
        // It exits, and so nothing is written.
        fs::remove_file(scene.root.path().join("proc/10/status")).unwrap();
        assert_eq!(scene.parts(2, [10]), [0.0], "listed again after the change");
        scene.process(10, &[]);
        assert_eq!([3, 30, 61].map(|second| scene.parts(second, [10])[0]), [0.0; 3]);
        assert_eq!(scene.parts(62, [10]), [1.0]);
    }

    #[test]
    fn where_cpus_are_assigned_to_a_group_nobody_knows_whose_its_energy_is() {
        let mut scene = Scene::new();
        scene.process(10, &[]);
        scene.write("web/tasks", "10\n");
        scene.write("web/cpus_list", "\n");
        assert_eq!(scene.parts(0, [10]), [1.0]);
        scene.write("web/cpus_list", "2-3\n");
        assert_eq!(scene.parts(1, [10]), [0.0]);
    }
}
