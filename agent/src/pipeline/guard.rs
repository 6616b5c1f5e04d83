//! Calls into elements: a panic there is contained and becomes a fatal error of that element, and waits
//! between tries grow.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use wattrace_api::Error;

/// Calls `f`; a panic becomes a fatal error that carries its message.
pub(crate) fn contained<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    // An element that panicked is dropped and opened anew, so no broken state of it is seen again.
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<&str>().map(|s| s.to_string());
        let message = message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::fatal(format!("panicked: {message}")))
    })
}

/// Waits that double from one try to the next.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    next: Duration,
}

/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(60);

impl Backoff {
    pub(crate) fn new(first: Duration) -> Self {
        let first = first.clamp(Duration::from_millis(1), LONGEST);
        Self { first, next: first }
    }

    /// How long to wait now.
    pub(crate) fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(LONGEST);
        wait
    }

    /// It worked: the next failure waits shortly again.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
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

    #[test]
    fn waits_double_up_to_a_minute_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_secs(10));
        let waits: Vec<_> = (0..5).map(|_| backoff.wait().as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.wait().as_secs(), 10);
    }
}
