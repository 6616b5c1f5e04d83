//! Who may come in, and how many at a time. It is asked with a request's headers, before its body is read.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use wattrace_api::Error;

use crate::config::{Token, bad};

/// Most requests that are read and taken in at a time, so that memory stays bounded.
const MOST_REQUESTS: usize = 32;
/// How long a request may wait for its turn.
const TURN: Duration = Duration::from_secs(5);

/// Why a request may not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// It does not know the token.
    Unauthenticated,
    /// Too many others are here.
    Busy,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Door {
    token: Option<Vec<u8>>,
    requests: Arc<Semaphore>,
}

impl Door {
    /// A door that opens to whoever says `token`.
    ///
    /// # Errors
    /// A file that cannot be read or holds no token.
    pub(crate) fn new(token: &Token) -> Result<Self, Error> {
        let token = match token {
            Token::None => None,
            Token::Given(token) => Some(token.0.clone().into_bytes()),
            Token::File(path) => {
                let problem = |what: &dyn std::fmt::Display| {
                    bad("bearer_token_file", format!("{}: {what}", path.display()))
                };
                let token = fs::read_to_string(path).map_err(|e| problem(&e))?;
                let token = token.trim();
                if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
                    return Err(problem(
                        &"it is to hold one token, of letters, digits and signs, and no more",
                    ));
                }
                Some(token.as_bytes().to_vec())
            }
        };
        Ok(Self { token, requests: Arc::new(Semaphore::new(MOST_REQUESTS)) })
    }

    /// Whether a request with these headers may come in, and for as long as it holds the permit.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn enter(&self, headers: &HeaderMap) -> Result<OwnedSemaphorePermit, Turned> {
        if !self.knows(headers) {
            return Err(Turned::Unauthenticated);
        }
        match timeout(TURN, self.requests.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Turned::Busy),
        }
    }

    /// Whether the token is right. How long that takes tells nothing of how much of it is.
    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let Some(said) = headers.get(AUTHORIZATION).map(|value| value.as_bytes()) else { return false };
        match said.split_at_checked(7) {
            Some((scheme, said)) if scheme.eq_ignore_ascii_case(b"bearer ") => said.ct_eq(token).into(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::Secret;

    fn knows(token: &Token, said: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        said.map(|said| headers.insert(AUTHORIZATION, said.parse().unwrap()));
        Door::new(token).unwrap().knows(&headers)
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token::Given(Secret("open-sesame".to_owned()));
        assert!(knows(&token, Some("Bearer open-sesame")));
        assert!(knows(&token, Some("bearer open-sesame")));
        for wrong in
            ["Bearer open", "Bearer open-sesame1", "Bearer ", "Bearer", "Basic open-sesame", "open-sesame"]
        {
            assert!(!knows(&token, Some(wrong)), "{wrong}");
        }
        assert!(!knows(&token, None));
        assert!(knows(&Token::None, None));
    }

    #[test]
    fn a_file_holds_the_token_and_perhaps_a_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hush\n").unwrap();
        let token = Token::File(file.path().into());
        assert!(knows(&token, Some("Bearer hush")));
        fs::write(file.path(), "\n").unwrap();
        let error = Door::new(&token).unwrap_err().to_string();
        assert!(error.starts_with("plugins.otlp-receiver.bearer_token_file: "), "{error}");
        assert!(
            Door::new(&Token::File("/no/such/file".into())).unwrap_err().to_string().contains("No such file")
        );
    }
}
