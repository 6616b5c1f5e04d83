//! What the kernel knows about the processes that are shown. Read when a screen is drawn, for those alone.

use std::fs;

use wattrace_procfs::Procfs;
use wattrace_terminal::{Facts, ProcessFacts};

/// Threads that are read at most.
const MOST_THREADS: usize = 256;

/// Reads `/proc`.
#[derive(Debug, Default)]
pub(super) struct KernelFacts {
    procfs: Procfs,
}

impl Facts for KernelFacts {
    fn memory(&mut self, pid: u32) -> Option<u64> {
        let statm = fs::read_to_string(self.procfs.root().join(format!("{pid}/statm"))).ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        // A kernel thread has no memory of its own.
        (pages > 0).then(|| pages * rustix::param::page_size() as u64)
    }

    fn process(&mut self, pid: u32) -> Option<ProcessFacts> {
        let directory = fs::read_dir(self.procfs.root().join(format!("{pid}/task"))).ok()?;
        let ids = directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let threads: Vec<_> = ids
            .take(MOST_THREADS)
            .filter_map(|thread| self.procfs.stat(thread).map(|stat| (thread, stat.comm, stat.state)))
            .collect();
        Some(ProcessFacts { threads, span: self.span(pid) })
    }
}

impl KernelFacts {
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
        assert!(process.threads.iter().any(|(thread, _, _)| *thread == pid));
        assert!(process.threads.len() >= 2, "the test's thread runs: {process:?}");
        assert_eq!((facts.memory(u32::MAX), facts.process(u32::MAX)), (None, None));
    }
}
