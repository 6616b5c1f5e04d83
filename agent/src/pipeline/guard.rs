//! Contained calls into elements: a panic becomes a fatal error of that element.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use wattrace_api::Error;

/// The longest wait before a failed element is tried again.
pub(crate) const MAX_RETRY: Duration = Duration::from_secs(60);

/// Calls `f`; a panic becomes a fatal error that carries its message.
pub(crate) fn contained<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // An element that panicked is dropped and reopened, so its broken state is never used.
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|s| s.to_string());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::fatal(format!("panicked: {message}")))
    })
}

#[cfg(test)]
mod tests {
    use wattrace_api::ErrorKind;

    use super::*;

    #[test]
    fn a_panic_is_a_fatal_error_with_its_message() {
        let error = contained::<()>(|| panic!("the {} is on fire", "meter")).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (ErrorKind::Fatal, "panicked: the meter is on fire".into())
        );
    }
}
