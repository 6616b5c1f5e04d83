//! What only /proc and the cgroup tree know: who a process is that was there before us, and the path of a
//! cgroup id. Everything here may vanish while it is read; then there is simply less to say.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use rustc_hash::FxHashMap;

/// Nanoseconds per tick of `/proc/PID/stat`'s start time (`USER_HZ`).
pub(crate) fn tick_nanos() -> u64 {
    // SAFETY: it has no preconditions.
    let hz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000_000 / u64::try_from(hz).unwrap_or(100).max(1)
}

/// A living process, as /proc tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Living {
    pub(crate) comm: String,
    pub(crate) parent_pid: u32,
    start_ticks: u64,
}

impl Living {
    /// Reads `/proc/PID/stat`; `None` if there is no such process or it is not the one started at `start`
    /// (`CLOCK_BOOTTIME`, ns; /proc knows it to a hundredth of a second).
    pub(crate) fn read(pid: u32, start: u64) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(&stat).filter(|p| p.start_ticks == start / tick_nanos())
    }
}

/// When a thread was started, in ticks since boot; `None` if there is no such thread.
pub(crate) fn start_ticks(tid: u32) -> Option<u64> {
    Some(parse_stat(&fs::read(format!("/proc/{tid}/stat")).ok()?)?.start_ticks)
}

/// `pid (comm) state ppid … starttime …`; the name may hold spaces and parentheses.
pub(crate) fn parse_stat(stat: &[u8]) -> Option<Living> {
    let open = stat.iter().position(|&b| b == b'(')?;
    let close = stat.iter().rposition(|&b| b == b')')?;
    let comm = String::from_utf8_lossy(stat.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let parent_pid = fields.nth(1)?.parse().ok()?;
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Living { comm, parent_pid, start_ticks })
}

/// The real user id of a process; `None` if it is gone.
pub(crate) fn user(pid: u32) -> Option<u32> {
    parse_user(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// `Uid:` real, effective, saved, file system.
pub(crate) fn parse_user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// Where a process's executable lies; `None` for kernel threads and where we may not look.
pub(crate) fn executable(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.to_string_lossy().trim_end_matches(" (deleted)").to_string())
}

/// Paths of cgroup v2 ids: told by the kernel when a cgroup is made, else looked up once each.
#[derive(Default)]
pub(crate) struct Cgroups {
    mount: Option<(String, OwnedFd)>,
    paths: FxHashMap<u64, Option<Arc<str>>>,
}

/// Ids come and go; beyond so many known ones we forget all and start over.
const MOST_PATHS: usize = 65536;

impl Cgroups {
    pub(crate) fn new() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let point = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (point, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| point.to_string())
        });
        let open = |point: String| {
            let dir = fs::File::open(&point).ok()?;
            Some((point, dir.into()))
        };
        Self { mount: point.and_then(open), paths: FxHashMap::default() }
    }

    /// A cgroup was made: its path is known even when it is gone before anyone asks.
    pub(crate) fn made(&mut self, id: u64, path: &str) {
        if !path.is_empty() {
            self.bound();
            self.paths.insert(id, Some(path.into()));
        }
    }

    fn bound(&mut self) {
        if self.paths.len() >= MOST_PATHS {
            self.paths.clear();
        }
    }

    /// The path of cgroup `id` below the cgroup v2 mount; `None` if it is gone or may not be looked up.
    pub(crate) fn path(&mut self, id: u64) -> Option<Arc<str>> {
        self.bound();
        let mount = self.mount.as_ref();
        let look_up = || {
            let (point, dir) = mount?;
            let path = path_of_handle(dir, id)?;
            let below = path.strip_prefix(point.as_str()).unwrap_or(&path);
            Some(if below.is_empty() { "/" } else { below }.into())
        };
        self.paths.entry(id).or_insert_with(look_up).clone()
    }
}

/// A cgroup's id is its file handle on cgroupfs (type `FILEID_KERNFS`).
fn path_of_handle(mount: &OwnedFd, id: u64) -> Option<String> {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    const FILEID_KERNFS: i32 = 0xfe;
    let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
    // SAFETY: `handle` is laid out as `struct file_handle` with eight bytes of handle, and lives through the
    // call.
    let fd = unsafe {
        libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast(), libc::O_PATH | libc::O_CLOEXEC)
    };
    if fd < 0 {
        return None;
    }
    // SAFETY: the call just gave us this descriptor.
    let dir = unsafe { OwnedFd::from_raw_fd(fd) };
    let link = CString::new(format!("/proc/self/fd/{}", dir.as_raw_fd())).ok()?;
    let path = fs::read_link(link.to_str().ok()?).ok()?;
    Some(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_anything() {
        let tail = "S 7 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let parse = |comm: &str| parse_stat(format!("12 ({comm}) {tail}").as_bytes());
        for comm in ["sh", "a b", "x) R 1 (y", ""] {
            let p = parse(comm).unwrap();
            assert_eq!((p.comm.as_str(), p.parent_pid, p.start_ticks), (comm, 7, 4242));
        }
        assert_eq!(parse_stat(b"12 (sh) S 7"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let pid = std::process::id();
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap();
        let start = parse_stat(&stat).unwrap().start_ticks * tick_nanos();
        assert_eq!(Living::read(pid, start + 1).unwrap().start_ticks, start / tick_nanos());
        assert_eq!(Living::read(pid, start + 2 * tick_nanos()), None);
        assert!(executable(pid).unwrap().starts_with('/'));
        // SAFETY: it has no preconditions.
        assert_eq!(user(pid), Some(unsafe { libc::getuid() }));
        assert_eq!([parse_user("Uid:\tx\n"), parse_user("Name:\tUid:\n")], [None, None]);
    }
}
