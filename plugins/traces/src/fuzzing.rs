//! For fuzzing: what processes have in their environments.

use wattrace_api::trace::TraceContext;

use crate::carrier::context;

/// An environment, as in `/proc/PID/environ`. A context in it is written as it was read.
pub fn environment(bytes: &[u8]) {
    if let Some(found) = context(bytes) {
        assert_eq!(TraceContext::parse(&found.to_string()), Some(found));
    }
}
