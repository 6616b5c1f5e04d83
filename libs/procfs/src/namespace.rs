//! Whether this process runs in the initial namespaces.

use std::fs;

/// The initial namespaces, which are constants of the kernel (`PROC_USER_INIT_INO`, `PROC_PID_INIT_INO`).
const INITIAL_USER: &str = "user:[4026531837]";
const INITIAL_PID: &str = "pid:[4026531836]";

/// Whether the user namespace is another one: capabilities hold only within it.
pub fn users_are_private() -> bool {
    differs("user", INITIAL_USER)
}

/// Whether the PID namespace is another one: pids mean something else here than for the kernel programs.
pub fn pids_are_private() -> bool {
    differs("pid", INITIAL_PID)
}

/// What cannot be read is taken as usual.
fn differs(name: &str, initial: &str) -> bool {
    fs::read_link(format!("/proc/self/ns/{name}")).is_ok_and(|link| link.as_os_str() != initial)
}
