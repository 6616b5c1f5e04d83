//! Why there is no answer to a request, in kinds that a caller can give a remedy for.

use std::io;
use std::time::Duration;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("{0}")]
    Connect(io::Error),
    /// The TLS handshake failed: the certificate is not trusted, or the other side does not speak TLS.
    #[error("{0}")]
    Tls(String),
    /// The answer did not arrive in time.
    #[error("no answer in {0:?}")]
    Timeout(Duration),
    /// The answer is longer than the limit, in bytes.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
    /// The connection broke, or what came is not HTTP.
    #[error("{0}")]
    Protocol(String),
}

/// An error with all its causes, each once: libraries like to repeat the cause in the message.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// The first error of type `E` among `error` and its causes.
pub fn find<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
