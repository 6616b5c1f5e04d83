//! The systemd unit in a cgroup path: the first name that is not a slice, as systemd itself looks for it.
//! Below a user's manager (`user@1000.service`) it is that manager's unit.

use std::sync::Arc;

use super::text::{number, pieces};

/// A unit that has processes: a service, a scope, …
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its name, `nginx.service`.
    pub(crate) name: Arc<str>,
    /// The user whose manager runs it; `None`: the system's manager does.
    pub(crate) user: Option<u32>,
}

impl Unit {
    /// An id that is unique on the machine: `nginx.service`, `user@1000.service/app.service`.
    pub(crate) fn id(&self) -> Arc<str> {
        match self.user {
            None => self.name.clone(),
            Some(user) => format!("user@{user}.service/{}", self.name).into(),
        }
    }
}

/// The kinds of unit that have processes.
const KINDS: [&str; 5] = ["service", "scope", "mount", "swap", "socket"];

/// The unit.
pub(crate) fn find(path: &str) -> Option<Unit> {
    let mut names = pieces(path).map(unescaped).skip_while(|name| name.ends_with(".slice"));
    let name = names.next().filter(|name| is_unit(name))?;
    let manager = name.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service"));
    if let Some(user) = manager.and_then(number) {
        let own = names.find(|name| !name.ends_with(".slice")).filter(|name| is_unit(name));
        if let Some(own) = own {
            return Some(Unit { name: own.into(), user: Some(user) });
        }
    }
    Some(Unit { name: name.into(), user: None })
}

fn is_unit(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, kind)| !stem.is_empty() && KINDS.contains(&kind))
}

/// systemd puts an underscore before names that look like the kernel's own files (`cpu.service`).
fn unescaped(piece: &str) -> &str {
    piece.strip_prefix('_').unwrap_or(piece)
}
