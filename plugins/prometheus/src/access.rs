//! Who may scrape: everybody, or who sends the user name and password.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap};
use subtle::ConstantTimeEq as _;

/// The credentials that a request must carry, if any.
#[derive(Clone)]
pub(crate) struct Access {
    /// `user:password`.
    credentials: Option<Vec<u8>>,
}

impl Access {
    /// Access with `user:password`, or without.
    pub(crate) fn new(credentials: Option<String>) -> Self {
        Self { credentials: credentials.map(String::into_bytes) }
    }

    /// Whether a request with these headers may read. The comparison takes constant time.
    pub(crate) fn is_granted(&self, headers: &HeaderMap) -> bool {
        let Some(credentials) = &self.credentials else { return true };
        let value = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let sent = value.and_then(|value| match value.split_at_checked(6) {
            Some((scheme, sent)) if scheme.eq_ignore_ascii_case(b"basic ") => STANDARD.decode(sent).ok(),
            _ => None,
        });
        sent.is_some_and(|sent| sent.ct_eq(credentials).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_credentials_are_admitted() {
        let access = Access::new(Some("me:hush".to_owned()));
        let is_granted = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            value.map(|value| headers.insert(AUTHORIZATION, value.parse().unwrap()));
            access.is_granted(&headers)
        };
        assert!(is_granted(Some("Basic bWU6aHVzaA==")));
        assert!(is_granted(Some("basic bWU6aHVzaA==")));
        for wrong in ["Basic bWU6aHVzaA", "Basic bWU6aHVz", "Bearer bWU6aHVzaA==", "Basic ", "Basic"] {
            assert!(!is_granted(Some(wrong)), "{wrong}");
        }
        assert!(!is_granted(None));
        assert!(Access::new(None).is_granted(&HeaderMap::new()));
    }
}
