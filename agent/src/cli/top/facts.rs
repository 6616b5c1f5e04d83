//! What the kernel knows about the processes that are shown. Read when a screen is drawn, for those alone.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use wattrace_procfs::{Procfs, Stat};
use wattrace_terminal::{Facts, ProcessFacts, ThreadFacts};

/// Threads that are read at most.
const MOST_THREADS: usize = 256;

/// How many of the processes of large groups are read again for a screen: their files take 5 µs each.
const MOST_AGAIN: u32 = 500;

/// For so many screens what nobody asked for is kept.
const FORGOTTEN: u32 = 60;

/// Reads `/proc` and `/sys/fs/cgroup`.
#[derive(Debug)]
pub(super) struct KernelFacts {
    procfs: Procfs,
    cgroups: PathBuf,
    /// Memory of processes of groups.
    known: HashMap<u32, Known>,
    /// Number of the screen that is drawn.
    screen: u32,
    /// How many more may be read again for it.
    again: u32,
}

/// What was read of a process.
#[derive(Clone, Copy, Debug)]
struct Known {
    memory: Option<u64>,
    /// For which screen it was read, and for which it was asked for last.
    read: u32,
    asked: u32,
}

impl Default for KernelFacts {
    fn default() -> Self {
        Self::at(Procfs::default(), Path::new("/sys/fs/cgroup"))
    }
}

impl Facts for KernelFacts {
    fn begin_screen(&mut self) {
        self.screen = self.screen.wrapping_add(1);
        self.again = MOST_AGAIN;
        if self.screen.is_multiple_of(FORGOTTEN) {
            let screen = self.screen;
            self.known.retain(|_, known| screen.wrapping_sub(known.asked) < FORGOTTEN);
        }
    }

    fn memory(&mut self, pid: u32) -> Option<u64> {
        let statm = fs::read_to_string(self.procfs.root().join(format!("{pid}/statm"))).ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        // A kernel thread has no memory of its own.
        (pages > 0).then(|| pages * rustix::param::page_size() as u64)
    }

    fn memory_of_one_of_many(&mut self, pid: u32) -> Option<u64> {
        let (screen, count) = (self.screen, u32::try_from(self.known.len()).unwrap_or(u32::MAX));
        if let Some(known) = self.known.get_mut(&pid) {
            known.asked = screen;
            // So that each has its turn.
            let is_fresh = screen.wrapping_sub(known.read) <= count / MOST_AGAIN;
            if is_fresh || self.again == 0 {
                return known.memory;
            }
            self.again -= 1;
        }
        let memory = self.memory(pid);
        self.known.insert(pid, Known { memory, read: screen, asked: screen });
        memory
    }

    fn memory_of_cgroup(&mut self, path: &str) -> Option<u64> {
        let path = path.trim_start_matches('/');
        // The unified hierarchy, and that of version 1.
        let files = [format!("{path}/memory.current"), format!("memory/{path}/memory.usage_in_bytes")];
        let text = files.iter().find_map(|file| fs::read_to_string(self.cgroups.join(file)).ok())?;
        text.trim().parse().ok()
    }

    fn process(&mut self, pid: u32) -> Option<ProcessFacts> {
        let directory = fs::read_dir(self.procfs.root().join(format!("{pid}/task"))).ok()?;
        let ids = directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let thread = |id| {
            // Its number alone would find a thread only by accident: a process's stat is the sum of all.
            let content = fs::read(self.procfs.root().join(format!("{pid}/task/{id}/stat"))).ok()?;
            let stat = Stat::parse(&content)?;
            let cpu_nanos = stat.cpu_nanos();
            Some(ThreadFacts { id, name: stat.comm, state: stat.state, cpu_nanos })
        };
        let threads = ids.take(MOST_THREADS).filter_map(thread).collect();
        let cpu_nanos = self.procfs.stat(pid)?.cpu_nanos();
        Some(ProcessFacts { threads, cpu_nanos, span: self.span(pid) })
    }
}

impl KernelFacts {
    fn at(procfs: Procfs, cgroups: &Path) -> Self {
        Self { procfs, cgroups: cgroups.to_owned(), known: HashMap::new(), screen: 0, again: MOST_AGAIN }
    }

    /// The span that the process was started in. Only what the user may read anyway is read: the environment
    /// holds secrets.
    fn span(&self, pid: u32) -> Option<String> {
        let environment = fs::read(self.procfs.root().join(format!("{pid}/environ"))).ok()?;
        let value = environment.split(|&byte| byte == 0).find_map(|v| v.strip_prefix(b"TRACEPARENT="))?;
        Some(String::from_utf8_lossy(value).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_threads_and_nobody_has_none() {
        let (mut facts, pid) = (KernelFacts::default(), std::process::id());
        assert!(facts.memory(pid).unwrap() > 100_000);
        let process = facts.process(pid).unwrap();
        assert!(process.threads.iter().any(|thread| thread.id == pid));
        assert!(process.threads.len() >= 2, "the test's thread runs: {process:?}");
        assert_eq!((facts.memory(u32::MAX), facts.process(u32::MAX)), (None, None));
    }

    #[test]
    fn each_thread_has_its_own_time_and_the_process_that_of_all() {
        let busy = std::thread::spawn(|| {
            let begin = std::time::Instant::now();
            let own = || fs::read_to_string("/proc/thread-self/stat").unwrap();
            let nanos = |text: String| Stat::parse(text.as_bytes()).unwrap().cpu_nanos();
            while nanos(own()) < 50_000_000 && begin.elapsed().as_secs() < 60 {}
            let id = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            (id, KernelFacts::default().process(std::process::id()).unwrap())
        });
        let (id, process) = busy.join().unwrap();
        let own = process.threads.iter().find(|thread| thread.id == id).unwrap();
        let sum: u64 = process.threads.iter().map(|thread| thread.cpu_nanos).sum();
        assert!(own.cpu_nanos >= 50_000_000, "{process:?}");
        // Read one after the other, in ticks of 10 ms.
        assert!(sum <= process.cpu_nanos + 20_000_000 * process.threads.len() as u64, "{process:?}");
        let others = process.threads.iter().filter(|thread| thread.cpu_nanos == own.cpu_nanos).count();
        assert!(others < process.threads.len(), "not the process's time for each: {process:?}");
    }

    #[test]
    fn the_memory_of_a_cgroup_is_read_from_both_hierarchies() {
        let root = tempfile::tempdir().unwrap();
        let mut facts = KernelFacts::at(Procfs::default(), root.path());
        for (file, path, bytes) in [
            ("system.slice/a.service/memory.current", "/system.slice/a.service", 4096),
            ("memory/slurm/job_4/memory.usage_in_bytes", "/slurm/job_4", 8192),
        ] {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("{bytes}\n")).unwrap();
            assert_eq!(facts.memory_of_cgroup(path), Some(bytes));
        }
        assert_eq!(facts.memory_of_cgroup("/absent"), None);
    }

    #[test]
    fn of_many_processes_few_are_read_again_and_each_has_its_turn() {
        let root = tempfile::tempdir().unwrap();
        let count = 2 * MOST_AGAIN;
        let write = |pages: u32| {
            for pid in 1..=count {
                fs::create_dir_all(root.path().join(pid.to_string())).unwrap();
                fs::write(root.path().join(format!("{pid}/statm")), format!("9 {pages} 1")).unwrap();
            }
        };
        let mut facts = KernelFacts::at(Procfs::at(root.path()), root.path());
        let page = rustix::param::page_size() as u64;
        let screen = |facts: &mut KernelFacts| -> u64 {
            facts.begin_screen();
            (1..=count).filter_map(|pid| facts.memory_of_one_of_many(pid)).sum::<u64>() / page
        };
        write(1);
        assert_eq!(screen(&mut facts), u64::from(count), "what is new is read at once");
        write(3);
        let sums: Vec<u64> = (0..5).map(|_| screen(&mut facts)).collect();
        assert!(sums.windows(2).all(|pair| pair[1] - pair[0] <= 2 * u64::from(MOST_AGAIN)), "{sums:?}");
        assert_eq!(sums[4], 3 * u64::from(count), "{sums:?}");
        (0..2 * FORGOTTEN).for_each(|_| facts.begin_screen());
        assert!(facts.known.is_empty());
    }
}
