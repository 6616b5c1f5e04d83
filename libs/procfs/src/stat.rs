//! Parses `/proc/PID/stat`: `pid (comm) state ppid … starttime …`. `lib.rs` reads the file.

/// Nanoseconds per tick of the times in `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that runs
/// eBPF.
pub const TICK_NANOS: u64 = 10_000_000;

/// What is used of `/proc/PID/stat`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name, at most 15 bytes for processes. Bytes that are not UTF-8 are replaced.
    pub comm: String,
    /// `R`, `S`, `D`, `Z`, …
    pub state: char,
    /// The parent's pid.
    pub parent: u32,
    /// Its time on CPUs in user and in kernel mode, in ticks of [`TICK_NANOS`]: of a process that of all its
    /// threads, also of those that have ended.
    pub cpu_ticks: u64,
    /// When it was started, in ticks of [`TICK_NANOS`] since boot.
    pub start_ticks: u64,
}

impl Stat {
    /// Parses the file's content. The name may contain spaces, parentheses and newlines, so it ends at the
    /// last closing parenthesis.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let open = content.iter().position(|&byte| byte == b'(')?;
        let close = content.iter().rposition(|&byte| byte == b')')?;
        let comm = String::from_utf8_lossy(content.get(open + 1..close)?).into_owned();
        let mut fields = std::str::from_utf8(content.get(close + 1..)?).ok()?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        // The 14th, 15th and 22nd field of the file.
        let (user, system): (u64, u64) = (fields.nth(9)?.parse().ok()?, fields.next()?.parse().ok()?);
        let start_ticks = fields.nth(6)?.parse().ok()?;
        Some(Self { comm, state, parent, cpu_ticks: user.saturating_add(system), start_ticks })
    }

    /// When it was started, in nanoseconds since boot (`CLOCK_BOOTTIME`), rounded down to a tick.
    pub fn start_nanos(&self) -> u64 {
        self.start_ticks.saturating_mul(TICK_NANOS)
    }

    /// Its time on CPUs, in nanoseconds.
    pub fn cpu_nanos(&self) -> u64 {
        self.cpu_ticks.saturating_mul(TICK_NANOS)
    }

    /// Whether it has exited, and only its exit status is kept.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "S 7 1 1 0 -1 4194560 0 0 0 0 31 11 0 0 20 0 1 0 4242 0 0";

    #[test]
    fn the_name_may_contain_anything() {
        for comm in ["sh", "a b", "x) R 1 (y", "", "((", "))", "a\nb", "kworker/0:1H-kblockd"] {
            let stat = Stat::parse(format!("12 ({comm}) {TAIL}\n").as_bytes()).unwrap();
            let (comm, state) = (comm.to_owned(), 'S');
            assert_eq!(stat, Stat { comm, state, parent: 7, cpu_ticks: 42, start_ticks: 4242 });
            assert_eq!(stat.cpu_nanos(), 420_000_000);
            assert_eq!(stat.start_nanos(), 42_420_000_000);
        }
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_replaced() {
        let content = [b"12 (a\xffb) ", TAIL.as_bytes()].concat();
        assert_eq!(Stat::parse(&content).unwrap().comm, "a\u{fffd}b");
    }

    #[test]
    fn kernel_threads_that_are_idle_are_read_and_live() {
        let content = format!("8 (kworker/0:0H-events_highpri) I 2{}", &TAIL[3..]);
        let stat = Stat::parse(content.as_bytes()).unwrap();
        assert_eq!((&*stat.comm, stat.parent, stat.is_zombie()), ("kworker/0:0H-events_highpri", 2, false));
    }

    #[test]
    fn exited_processes_are_zombies() {
        let of = |state: &str| Stat::parse(format!("12 (sh) {state}{}", &TAIL[1..]).as_bytes()).unwrap();
        assert!(["Z", "X", "x"].iter().all(|state| of(state).is_zombie()));
        assert!(["R", "S", "D", "T", "I"].iter().all(|state| !of(state).is_zombie()));
    }

    #[test]
    fn malformed_content_is_refused() {
        let cases = [
            String::new(),
            "12".to_owned(),
            "12 (sh".to_owned(),
            "12 )sh(".to_owned(),
            format!("12 sh {TAIL}"),
            "12 (sh)".to_owned(),
            "12 (sh) S".to_owned(),
            "12 (sh) S 7".to_owned(),
            // Cut off right before the start time.
            format!("12 (sh) {}", TAIL.split(" 4242").next().unwrap()),
            format!("12 (sh) {}", TAIL.replace("S 7", "S x")),
            format!("12 (sh) {}", TAIL.replace("S 7", "S -1")),
            format!("12 (sh) {}", TAIL.replace("S 7", "S 4294967296")),
            format!("12 (sh) {}", TAIL.replace("4242", "-4242")),
            format!("12 (sh) {}", TAIL.replace("4242", "18446744073709551616")),
        ];
        for content in cases {
            assert_eq!(Stat::parse(content.as_bytes()), None, "{content:?}");
        }
        assert_eq!(Stat::parse(&[b"12 (sh) \xff ", TAIL.as_bytes()].concat()), None);
    }

    #[test]
    fn a_start_beyond_the_clock_is_capped() {
        let content = format!("12 (sh) {}", TAIL.replace("4242", &u64::MAX.to_string()));
        assert_eq!(Stat::parse(content.as_bytes()).unwrap().start_nanos(), u64::MAX);
    }
}
