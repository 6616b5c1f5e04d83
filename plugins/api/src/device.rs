//! The devices that a machine may lack: how messages call them, and what the agent cannot do without them.
//! Whether one is there is for a plugin's elements and its [findings](crate::finding) to say.

use crate::subject::ResourceKind;

/// A device that a plugin's sources measure. Plugins may share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What people call it, as in "no RAPL meter", "absent: GPU".
    pub name: &'static str,
    /// The hardware whose energy it meters.
    pub meters: ResourceKind,
    /// What an agent without it costs in accuracy or function: the end of a sentence.
    pub without: &'static str,
}
