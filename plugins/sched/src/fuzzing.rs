//! The parsers of foreign data, for fuzzers. Each function must return soon and without a panic, whatever its
//! input.

use std::hint::black_box;

use crate::command_line::readable;

pub use crate::kernel::fuzzing::btf;

/// The last CPU of a list.
pub fn last_cpu(list: &str) -> Option<usize> {
    wattrace_topology::parse_list(list).and_then(|cpus| cpus.last().map(|&last| last as usize))
}

/// `/proc/PID/stat`, and `/proc/PID/status`.
pub fn proc(bytes: &[u8]) {
    _ = black_box(wattrace_procfs::Stat::parse(bytes));
    _ = black_box(wattrace_procfs::real_uid(&String::from_utf8_lossy(bytes)));
}

/// Arguments, each terminated by a zero: secrets in them stay hidden, whatever surrounds them.
pub fn arguments(arguments: &[u8]) {
    const SECRET: &str = "hunter2hunter2";
    if arguments.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
        return;
    }
    _ = black_box(readable(arguments));
    // A truncated argument would absorb what follows it.
    let mut before = arguments.to_vec();
    if !before.is_empty() && !before.ends_with(b"\0") {
        before.push(0);
    }
    let last = arguments.split(|&byte| byte == 0).next_back().unwrap_or_default();
    for secret in [
        [b"--password=", SECRET.as_bytes()].concat(),
        [b"--api-key\0", SECRET.as_bytes()].concat(),
        [last, b"https://me:", SECRET.as_bytes(), b"@example.org/", last].concat(),
        [last, b" --token=", SECRET.as_bytes()].concat(),
    ] {
        let line = readable(&[&before, &*secret, b"\0", arguments].concat());
        assert!(!line.contains(SECRET), "a secret is shown: {line}");
    }
}
