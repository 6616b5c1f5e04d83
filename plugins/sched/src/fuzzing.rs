//! What reads text and tables that somebody else wrote, for fuzzers to throw bytes at. Nothing here is for
//! use; each function must return, whatever it is given, soon and without a panic.

use std::hint::black_box;

use crate::command_line::readable;
use crate::proc::{parse_stat, parse_user};

pub use crate::kernel::fuzzing::btf;

/// The last CPU of a list.
pub fn last_cpu(list: &str) -> Option<usize> {
    crate::topology::list(list).and_then(|cpus| cpus.last().copied())
}

/// `/proc/PID/stat`, and `/proc/PID/status`.
pub fn proc(bytes: &[u8]) {
    _ = black_box(parse_stat(bytes));
    _ = black_box(parse_user(&String::from_utf8_lossy(bytes)));
}

/// Arguments, each ended by a zero: secrets among them stay hidden, whatever is around them.
pub fn arguments(arguments: &[u8]) {
    const SECRET: &str = "hunter2hunter2";
    if arguments.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
        return;
    }
    _ = black_box(readable(arguments));
    // An argument that is cut takes up what is put after it.
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
