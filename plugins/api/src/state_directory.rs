//! Where the agent keeps what must survive it: what attribution has learnt, what waits for a server.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// The directory of the agent's state: `$STATE_DIRECTORY`, which systemd sets; without that variable
/// `/var/lib/wattrace` for root, and for others `$XDG_STATE_HOME/wattrace` or `~/.local/state/wattrace`.
/// `None` for a user without a home directory.
pub fn state_directory() -> Option<PathBuf> {
    state_directory_of(rustix::process::geteuid().is_root(), |variable| std::env::var_os(variable))
}

fn state_directory_of(is_root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let directory = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // systemd separates several directories by colons; the first one is ours.
    let of_service = variable("STATE_DIRECTORY").and_then(|all| {
        let first = all.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default();
        (!first.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(first)))
    });
    let of_user = || {
        let state = directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")));
        Some(state?.join("wattrace"))
    };
    match of_service {
        Some(directory) => Some(directory),
        None if is_root => Some(PathBuf::from("/var/lib/wattrace")),
        None => of_user(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_where_the_service_the_system_or_the_user_keeps_state() {
        let directory = |is_root, variables: &[(&str, &str)]| {
            let of = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
            state_directory_of(is_root, of).map(|path| path.to_str().unwrap().to_owned())
        };
        let home = ("HOME", "/home/a");
        assert_eq!(directory(true, &[home]).as_deref(), Some("/var/lib/wattrace"));
        assert_eq!(directory(true, &[("STATE_DIRECTORY", "")]).as_deref(), Some("/var/lib/wattrace"));
        assert_eq!(directory(true, &[("STATE_DIRECTORY", "/s/one:/s/two"), home]).as_deref(), Some("/s/one"));
        assert_eq!(directory(false, &[home]).as_deref(), Some("/home/a/.local/state/wattrace"));
        let xdg = [home, ("XDG_STATE_HOME", "/x")];
        assert_eq!(directory(false, &xdg).as_deref(), Some("/x/wattrace"));
        let relative = [home, ("XDG_STATE_HOME", "relative")];
        assert_eq!(directory(false, &relative).as_deref(), Some("/home/a/.local/state/wattrace"));
        assert_eq!(directory(false, &[]), None);
    }
}
