//! What a plugin finds when asked whether it could work here: the rows of `wattrace doctor`.

use serde::Serialize;

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, or for.
    pub what: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it, best a command to paste; empty if nothing.
    pub remedy: String,
}

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Missing, and the plugin works without it, if less well.
    Optional,
    /// Missing, and the plugin cannot work without it.
    Missing,
}
