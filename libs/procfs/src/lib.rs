//! Reads what several plugins need of `/proc/PID`: `stat`, the user in `status`, the executable, the cgroups,
//! memory. `stat.rs` parses `/proc/PID/stat`, `memory.rs` `smaps_rollup`; `namespace.rs` compares this
//! process's namespaces with the initial ones; `wattrace-topology` reads the CPUs.
//!
//! A process may exit at any time, also between the opening and the reading of its files. So every function
//! returns an `Option`: `None` means that there is no such process, that it may not be read, or that the file
//! makes no sense. Callers have nothing different to do in these three cases.
//!
//! The `procfs` crate was considered: 12,800 lines and three more crates for six fields, and its `stat` fails
//! as a whole if any of 52 fields does not parse.

mod memory;
pub mod namespace;
mod stat;

use std::fs;
use std::path::{Path, PathBuf};

use wattrace_api::privilege::for_kernel_file;

pub use memory::Memory;
pub use stat::{Stat, TICK_NANOS};

/// A mounted procfs, or a directory that looks like one.
#[derive(Clone, Debug)]
pub struct Procfs {
    root: PathBuf,
}

impl Default for Procfs {
    /// The one at `/proc`.
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl Procfs {
    /// The one that is mounted at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The `stat` of a process, or of a thread by its thread id.
    pub fn stat(&self, pid: u32) -> Option<Stat> {
        Stat::parse(&self.bytes(pid, "stat")?)
    }

    /// The real user id of a process.
    pub fn real_uid(&self, pid: u32) -> Option<u32> {
        real_uid(&self.text(pid, "status")?)
    }

    /// The process of a thread by its thread id, and how many threads that process has.
    pub fn process_of_thread(&self, thread: u32) -> Option<(u32, u32)> {
        let status = self.text(thread, "status")?;
        let field = |name| status_field(&status, name)?.parse().ok();
        Some((field("Tgid")?, field("Threads")?))
    }

    /// The path of a process's executable, also if that has been deleted since. Kernel threads have none.
    pub fn executable(&self, pid: u32) -> Option<String> {
        let link = self.file(pid, "exe");
        let path = for_kernel_file(&link, || fs::read_link(&link)).ok()?;
        Some(path.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
    }

    /// The `cgroup` file of a process: a line `hierarchy:controllers:path` for each hierarchy.
    pub fn cgroups(&self, pid: u32) -> Option<String> {
        self.text(pid, "cgroup")
    }

    /// The memory of a process. Kernel threads have none.
    pub fn memory(&self, pid: u32) -> Option<Memory> {
        Memory::parse(&self.text(pid, "smaps_rollup")?)
    }

    /// The arguments of a process, each ended by a zero. Kernel threads have none.
    pub fn arguments(&self, pid: u32) -> Option<Vec<u8>> {
        self.bytes(pid, "cmdline")
    }

    fn text(&self, pid: u32, name: &str) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(pid, name)?).into_owned())
    }

    fn bytes(&self, pid: u32, name: &str) -> Option<Vec<u8>> {
        let path = self.file(pid, name);
        for_kernel_file(&path, || fs::read(&path)).ok()
    }

    fn file(&self, pid: u32, name: &str) -> PathBuf {
        self.root.join(format!("{pid}/{name}"))
    }
}

/// The real user id in the text of `/proc/PID/status`: the first number of `Uid:`.
pub fn real_uid(status: &str) -> Option<u32> {
    status_field(status, "Uid")?.split_ascii_whitespace().next()?.parse().ok()
}

/// The value of a line `name:  value` in the text of `/proc/PID/status`.
pub fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    status.lines().find_map(value).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::process::{Command, Stdio};

    fn scene(pid: u32) -> (tempfile::TempDir, Procfs) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(pid.to_string())).unwrap();
        let procfs = Procfs::at(root.path());
        (root, procfs)
    }

    #[test]
    fn this_process_is_read() {
        let (procfs, pid) = (Procfs::default(), std::process::id());
        let stat = procfs.stat(pid).unwrap();
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(stat.start_nanos() > 0 && !stat.is_zombie());
        let of_thread = || {
            let thread = fs::read_link("/proc/thread-self").unwrap();
            procfs.process_of_thread(thread.file_name()?.to_str()?.parse().ok()?)
        };
        let (process, threads) = std::thread::scope(|scope| scope.spawn(of_thread).join()).unwrap().unwrap();
        assert!(process == pid && threads > 1, "{process} with {threads} threads");
        assert_eq!(procfs.real_uid(pid), Some(fs::metadata("/proc/self").unwrap().uid()));
        assert_eq!(procfs.executable(pid).as_deref(), std::env::current_exe().unwrap().to_str());
        assert!(procfs.arguments(pid).unwrap().starts_with(std::env::args().next().unwrap().as_bytes()));
        assert!(procfs.cgroups(pid).unwrap().contains("::/"));
        let memory = procfs.memory(pid).unwrap();
        assert!(memory.rss >= memory.pss && memory.pss > 100_000, "{memory:?}");
    }

    #[test]
    fn a_process_that_has_exited_has_nothing() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let (procfs, pid) = (Procfs::default(), child.id());
        assert_eq!(procfs.stat(pid).unwrap().parent, std::process::id());
        child.kill().unwrap();
        // Until it is waited for, it is a zombie: its stat is there, its executable is not.
        while !procfs.stat(pid).unwrap().is_zombie() {
            std::thread::yield_now();
        }
        assert_eq!(procfs.executable(pid), None);
        child.wait().unwrap();
        assert_eq!((procfs.stat(pid), procfs.real_uid(pid), procfs.cgroups(pid)), (None, None, None));
    }

    #[test]
    fn a_process_that_exits_while_its_file_is_open_reads_as_gone() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let open = fs::File::open(format!("/proc/{}/stat", child.id())).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // The kernel answers ESRCH: `fs::read` fails, and so does not return an empty file.
        assert!(std::io::read_to_string(open).is_err());
    }

    #[test]
    fn a_deleted_executable_keeps_its_path() {
        let (root, procfs) = scene(7);
        symlink("/opt/a b (deleted)", root.path().join("7/exe")).unwrap();
        assert_eq!(procfs.executable(7).as_deref(), Some("/opt/a b"));
    }

    #[test]
    fn text_that_is_not_utf_8_is_read() {
        let (root, procfs) = scene(7);
        fs::write(root.path().join("7/cgroup"), b"0::/a\xff\n").unwrap();
        assert_eq!(procfs.cgroups(7).as_deref(), Some("0::/a\u{fffd}\n"));
        fs::write(root.path().join("7/status"), b"Name:\t\xff\nUid:\t5\t6\t7\t8\n").unwrap();
        assert_eq!(procfs.real_uid(7), Some(5));
    }

    #[test]
    fn a_field_of_status_is_found_by_its_whole_name() {
        let status = "Name:\tUid: 7\nNSUid:\t8\nUidMap:\t9\nVmRSS:\t   12 kB\nUid:\t5\t6\t7\t8\n";
        assert_eq!(real_uid(status), Some(5));
        assert_eq!(status_field(status, "VmRSS"), Some("12 kB"));
        assert_eq!(status_field(status, "Vm"), None);
        for malformed in ["", "Uid:", "Uid:\tx\n", "Uid:\t-1\n", "Uid:\t4294967296\n", "Name:\tUid:\n"] {
            assert_eq!(real_uid(malformed), None, "{malformed:?}");
        }
    }
}
