//! The names of processes: the attributes that tell what a process runs. Most processes of a machine run few
//! programs in few cgroups, so equal text is kept once.

use std::sync::Arc;

use rustc_hash::FxHashSet;
use wattrace_api::{Attribute, AttributeValue};
use wattrace_common::COMM_LEN;

/// Texts that are kept once. When so many are known, all are forgotten, and those in use stay with their
/// users.
const MOST_TEXTS: usize = 4096;

/// Text that many processes have in common.
#[derive(Debug, Default)]
pub(crate) struct Names(FxHashSet<Arc<str>>);

impl Names {
    /// The one copy of `text`.
    pub(crate) fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        if self.0.len() >= MOST_TEXTS {
            self.0.clear();
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone());
        new
    }

    /// The attributes of a process with this name of its leader that runs `executable`.
    pub(crate) fn attributes(
        &mut self,
        comm: &[u8; COMM_LEN],
        executable: Option<&Arc<str>>,
    ) -> Vec<Attribute> {
        let end = comm.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
        let comm = self.shared(&String::from_utf8_lossy(&comm[..end]));
        // OpenTelemetry: the base name of /proc/PID/exe; a kernel thread has only its own name.
        let base = executable.and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
        let name = base.map_or_else(|| comm.clone(), |base| self.shared(base));
        let mut names =
            vec![shared_text("process.executable.name", name), shared_text("wattrace.process.comm", comm)];
        names.extend(executable.map(|path| shared_text("process.executable.path", path.clone())));
        names
    }
}

/// An attribute whose text is not copied.
pub(crate) fn shared_text(key: &'static str, text: Arc<str>) -> Attribute {
    Attribute::new(key, AttributeValue::Str(text))
}

/// A name as the kernel has it.
pub(crate) fn comm_bytes(comm: &str) -> [u8; COMM_LEN] {
    let mut bytes = [0; COMM_LEN];
    let len = comm.len().min(COMM_LEN - 1);
    bytes[..len].copy_from_slice(&comm.as_bytes()[..len]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_text_is_kept_once_and_not_without_bound() {
        let mut names = Names::default();
        let first = names.shared("/bin/sh");
        assert!(Arc::ptr_eq(&first, &names.shared("/bin/sh")));
        (0..2 * MOST_TEXTS).for_each(|n| _ = names.shared(&n.to_string()));
        assert!(names.0.len() <= MOST_TEXTS);
    }
}
