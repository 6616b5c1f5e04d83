//! The processes that have a GPU open, in the order in which they are asked. A client counts for the first
//! process that shows it. A child has its parent's descriptors, and a service may open a GPU for another
//! process, so that several processes show one client; one of them works with it.
//!
//! That is the one that has the GPU's memory mapped, which a program that was started with a descriptor, or
//! only passed it on, has not. If it is not known or true of several, it is the one that started first.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use wattrace_api::privilege::for_kernel_file;
use wattrace_api::{Clock, Directory};
use wattrace_procfs::Stat;

/// The directory of the GPUs' device files.
pub(crate) const DEVICES: &str = "/dev/dri/";
/// More bytes than are read of a process's mappings, which may be many.
const MOST_MAPPINGS: u64 = 16 << 20;

/// A process that has a GPU open.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) pid: u32,
    /// Its descriptors of GPUs.
    pub(crate) descriptors: Vec<u32>,
    stat: Option<Stat>,
    /// Whether a client of it was shown by another process, too.
    pub(crate) shares: bool,
    /// Whether it has a GPU's memory mapped; looked up only if it shares.
    maps: bool,
}

impl Holder {
    pub(crate) fn new(pid: u32, descriptors: Vec<u32>, stat: Option<Stat>) -> Self {
        Self { pid, descriptors, stat, shares: false, maps: false }
    }

    /// Looks up whether it has a GPU's memory mapped.
    pub(crate) fn look_up_mappings(&mut self, proc_root: &Path) {
        self.shares = true;
        self.maps = maps(&proc_root.join(format!("{}/maps", self.pid)));
    }

    /// When it started, in nanoseconds since the Unix epoch.
    fn started(&self, directory: &Directory, clock: &Clock) -> u64 {
        let stat = self.stat.as_ref().map(|stat| clock.unix_nanos_of_boottime(stat.start_nanos()));
        let known = || Some(directory.process(self.pid)?.identity().start_unix_nano);
        stat.or_else(known).unwrap_or(u64::MAX)
    }
}

/// Puts `holders` into the order in which they are asked.
pub(crate) fn sort(holders: &mut [&Holder], directory: &Directory, clock: &Clock) {
    let pids: Vec<u32> = holders.iter().map(|holder| holder.pid).collect();
    holders.sort_by_cached_key(|holder| {
        // Start times are known to 10 ms, in which a process may have forked.
        let is_child = holder.stat.as_ref().is_some_and(|stat| pids.contains(&stat.parent));
        (!holder.maps, holder.started(directory, clock), is_child, holder.pid)
    });
}

fn maps(path: &Path) -> bool {
    let Ok(file) = for_kernel_file(path, || File::open(path)) else {
        return false;
    };
    let mut lines = BufReader::new(std::io::Read::take(file, MOST_MAPPINGS));
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return false,
            Ok(_) if line.windows(DEVICES.len()).any(|part| part == DEVICES.as_bytes()) => {
                return true;
            }
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::{Registry, Timestamp};

    fn holder(pid: u32, start_ticks: u64, parent: u32) -> Holder {
        let stat = Stat { comm: "x".to_owned(), state: 'S', parent, cpu_ticks: 0, start_ticks };
        Holder::new(pid, vec![3], Some(stat))
    }

    fn order(of: &[Holder]) -> Vec<u32> {
        let mut holders: Vec<&Holder> = of.iter().collect();
        sort(&mut holders, Registry::new().directory(), &Clock::manual(Timestamp(0)));
        holders.iter().map(|holder| holder.pid).collect()
    }

    #[test]
    fn the_one_with_mappings_is_first_then_the_oldest_then_the_parent() {
        let child_with_lower_pid = [holder(700, 900, 8_120), holder(8_120, 100, 1)];
        assert_eq!(order(&child_with_lower_pid), [8_120, 700]);
        assert_eq!(order(&[holder(700, 100, 8_120), holder(8_120, 100, 1)]), [8_120, 700]);
        assert_eq!(order(&[holder(9, 100, 1), holder(7, 100, 1)]), [7, 9]);
        assert_eq!(order(&[Holder::new(7, vec![3], None), holder(9, 100, 1)]), [9, 7]);

        let root = tempfile::tempdir().unwrap();
        let mappings = |pid: u32, of: &str| {
            std::fs::create_dir_all(root.path().join(pid.to_string())).unwrap();
            std::fs::write(root.path().join(format!("{pid}/maps")), of).unwrap();
        };
        mappings(500, "7f00-7f10 rw-s 00000000 00:06 1 /usr/lib/libdrm.so\n");
        mappings(900, "7f00-7f10 r--p 00000000 00:06 1\n7f20-7f30 rw-s 1 00:06 4 /dev/dri/card0\n");
        // A service has opened the GPU for a compositor, which works with it.
        let mut both = [holder(500, 100, 1), holder(900, 200, 500)];
        both.iter_mut().for_each(|holder| holder.look_up_mappings(root.path()));
        assert_eq!(order(&both), [900, 500]);
    }
}
