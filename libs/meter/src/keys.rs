//! Checks of keys of the configuration that the plugins of meters have in common. Each error names the key.

use std::ops::RangeInclusive;
use std::time::Duration;

use humantime::format_duration;
use wattrace_api::Error;

/// Refuses a duration outside of `allowed`.
///
/// # Errors
/// Fatal, with `key` and what is allowed.
pub fn check_duration(key: &str, value: Duration, allowed: RangeInclusive<Duration>) -> Result<(), Error> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (shortest, longest) = (format_duration(*allowed.start()), format_duration(*allowed.end()));
    Err(Error::fatal(format!("{key}: {value:?} is not between {shortest} and {longest}")))
}

/// Refuses an empty text, such as the path of a tree.
///
/// # Errors
/// Fatal, with `key` and the default.
pub fn check_not_empty(key: &str, text: &str, default: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::fatal(format!("{key}: is empty; the default is \"{default}\"")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_key_and_what_is_allowed() {
        let allowed = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
        check_duration("a.b", Duration::from_millis(1), allowed.clone()).unwrap();
        let error = check_duration("a.b", Duration::ZERO, allowed).unwrap_err();
        assert_eq!(error.to_string(), "a.b: 0ns is not between 1ms and 1day");
        check_not_empty("a.b", "/", "/sys").unwrap();
        assert_eq!(
            check_not_empty("a.b", "", "/sys").unwrap_err().to_string(),
            "a.b: is empty; the default is \"/sys\""
        );
    }
}
