//! Admits requests: checks the bearer token, and limits how many are read at a time and how many bytes they
//! hold. It sees a request's headers, before the body is read.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderMap};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use wattrace_api::{Error, files};

use crate::budget::{Budget, Reservation};
use crate::config::{Token, bad};
use crate::decode::IN_FLIGHT;
use crate::seats::Seat;

/// A longer file holds no token.
const MAX_TOKEN: u64 = 1 << 16;

/// How long a request may take to arrive.
pub(crate) const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// After how many seconds a sender may try again.
pub(crate) const RETRY_AFTER: u64 = 1;
/// How many requests may be read and recorded at a time. Their bytes are limited apart, so that slow ones
/// hold up nobody.
const MOST_REQUESTS: usize = 256;
/// How long a request may wait for others to finish.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It does not carry the token.
    Unauthenticated,
    /// Too many others are being read.
    Busy,
}

/// What a request that is refused for now is answered.
pub(crate) mod busy {
    pub(crate) const REQUESTS: &str = "too many requests are being received";
    pub(crate) const BYTES: &str = "too many bytes of requests are in flight";
    pub(crate) const PIPELINE: &str = "the gateway's pipeline is behind";
}

/// A request that was admitted, as long as it is read and recorded.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The bytes that it holds.
    pub(crate) reservation: Arc<Reservation>,
    _permit: OwnedSemaphorePermit,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Admission {
    token: Option<Vec<u8>>,
    requests: Arc<Semaphore>,
    bytes: Arc<Budget>,
}

impl Admission {
    /// Admits requests that carry `token`, of messages of at most `max_message` bytes.
    ///
    /// # Errors
    /// A file that cannot be read or holds no token.
    pub(crate) fn new(token: &Token, max_message: usize) -> Result<Self, Error> {
        let token = match token {
            Token::None => None,
            Token::Given(token) => Some(token.0.clone().into_bytes()),
            Token::File(path) => {
                let problem = |what: &dyn std::fmt::Display| {
                    bad("bearer_token_file", format!("{}: {what}", path.display()))
                };
                let token = files::read_text(path, MAX_TOKEN).map_err(|e| problem(&e))?;
                let token = token.trim();
                if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
                    return Err(problem(
                        &"it must hold one token, of letters, digits and signs, and nothing else",
                    ));
                }
                Some(token.as_bytes().to_vec())
            }
        };
        let bytes = Budget::new(max_message.saturating_mul(IN_FLIGHT));
        Ok(Self { token, requests: Arc::new(Semaphore::new(MOST_REQUESTS)), bytes })
    }

    /// Admits a request with these headers, on the connection of `seat`. It counts as being read while what
    /// is returned is held.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn admit(
        &self,
        headers: &HeaderMap,
        seat: Option<&Arc<Seat>>,
    ) -> Result<Admitted, Rejection> {
        if !self.is_authenticated(headers) {
            return Err(Rejection::Unauthenticated);
        }
        seat.into_iter().for_each(|seat| seat.prove());
        match timeout(QUEUE_LIMIT, self.requests.clone().acquire_owned()).await {
            Ok(Ok(permit)) => {
                Ok(Admitted { reservation: Arc::new(self.bytes.reservation()), _permit: permit })
            }
            _ => Err(Rejection::Busy),
        }
    }

    /// Compares the token in constant time.
    fn is_authenticated(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let Some(value) = headers.get(AUTHORIZATION).map(|value| value.as_bytes()) else { return false };
        match value.split_at_checked(7) {
            Some((scheme, sent)) if scheme.eq_ignore_ascii_case(b"bearer ") => sent.ct_eq(token).into(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_api::Secret;

    fn is_authenticated(token: &Token, sent: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        sent.map(|sent| headers.insert(AUTHORIZATION, sent.parse().unwrap()));
        Admission::new(token, 1).unwrap().is_authenticated(&headers)
    }

    #[test]
    fn only_the_whole_token_is_admitted() {
        let token = Token::Given(Secret("open-sesame".to_owned()));
        assert!(is_authenticated(&token, Some("Bearer open-sesame")));
        assert!(is_authenticated(&token, Some("bearer open-sesame")));
        for wrong in
            ["Bearer open", "Bearer open-sesame1", "Bearer ", "Bearer", "Basic open-sesame", "open-sesame"]
        {
            assert!(!is_authenticated(&token, Some(wrong)), "{wrong}");
        }
        assert!(!is_authenticated(&token, None));
        assert!(is_authenticated(&Token::None, None));
    }

    #[test]
    fn the_file_of_the_token_may_end_with_a_newline() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hush\n").unwrap();
        let token = Token::File(file.path().into());
        assert!(is_authenticated(&token, Some("Bearer hush")));
        std::fs::write(file.path(), "\n").unwrap();
        let error = Admission::new(&token, 1).unwrap_err().to_string();
        assert!(error.starts_with("plugins.otlp-receiver.bearer_token_file: "), "{error}");
        assert!(
            Admission::new(&Token::File("/no/such/file".into()), 1)
                .unwrap_err()
                .to_string()
                .contains("No such file")
        );
    }
}
