//! The bearer token that a collector requires: configured, or read from a file before each request, so that a
//! token that is rotated while the agent runs takes effect at once.

use std::path::PathBuf;
use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::HeaderValue;
use tokio::task::spawn_blocking;
use wattrace_api::{Error, Secret};

use crate::transport::{OtlpClient, Outcome, Problem, Sending, Transport};

/// Where the token is.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    None,
    Given(HeaderValue),
    File(Arc<PathBuf>),
}

impl Token {
    /// # Errors
    /// Two tokens, or one that no header can hold; the message names the key.
    pub(crate) fn new(token: &Secret, file: PathBuf) -> Result<Self, Error> {
        let bad = |key, problem| Error::fatal(format!("plugins.otlp.{key}: {problem}"));
        match (token.is_empty(), file.as_os_str().is_empty()) {
            (true, true) => Ok(Token::None),
            (true, false) => Ok(Token::File(Arc::new(file))),
            (false, true) => header(&token.0).map(Token::Given).map_err(|e| bad("bearer_token", e)),
            (false, false) => {
                Err(bad("bearer_token_file", "there is a bearer_token as well: name one of them"))
            }
        }
    }

    /// What to send now as `authorization`.
    ///
    /// # Errors
    /// A file that cannot be read or holds no token.
    async fn header(&self) -> Result<Option<HeaderValue>, String> {
        let path = match self {
            Token::None => return Ok(None),
            Token::Given(header) => return Ok(Some(header.clone())),
            Token::File(path) => path.clone(),
        };
        // Reading may be slow (a network file system) and must not block the runtime's workers.
        let read = spawn_blocking(move || {
            let problem = |e: &dyn std::fmt::Display| {
                format!("plugins.otlp.bearer_token_file: {}: {e}", path.display())
            };
            // A longer file holds no token.
            let token = wattrace_api::files::read_text(&path, 1 << 16).map_err(|e| problem(&e))?;
            header(token.trim()).map_err(|e| problem(&e))
        });
        read.await.map_err(|e| e.to_string())?.map(Some)
    }
}

fn header(token: &str) -> Result<HeaderValue, &'static str> {
    const PROBLEM: &str = "it must be one token of letters, digits and punctuation, without spaces";
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(PROBLEM);
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| PROBLEM)?;
    // Printed as `Sensitive`.
    header.set_sensitive(true);
    Ok(header)
}

/// A client and the token that it sends with each request.
pub(crate) struct Authorized<C> {
    pub(crate) client: C,
    pub(crate) token: Token,
}

impl<C: OtlpClient> Transport for Authorized<C> {
    fn send(&self, request: Bytes) -> Sending<'_> {
        Box::pin(async move {
            let first = match self.token.header().await {
                Ok(header) => header,
                Err(cause) => return Outcome::Unreached { cause, problem: Problem::Token },
            };
            let outcome = self.client.send(request.clone(), first.clone()).await;
            let (Outcome::Refused { .. }, Token::File(_)) = (&outcome, &self.token) else { return outcome };
            // It may have been rotated after it was read.
            match self.token.header().await {
                Ok(second) if second != first => self.client.send(request, second).await,
                _ => outcome,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Accepts requests with the right token; may rotate the token in the file when a request comes.
    struct FakeServer {
        right: &'static str,
        rotates: Option<(PathBuf, &'static str)>,
        received: Mutex<Vec<String>>,
    }

    impl OtlpClient for FakeServer {
        fn send(&self, _: Bytes, authorization: Option<HeaderValue>) -> Sending<'_> {
            let received = authorization.map_or(String::new(), |value| value.to_str().unwrap().to_owned());
            self.received.lock().unwrap().push(received.clone());
            if let Some((file, token)) = &self.rotates {
                std::fs::write(file, token).unwrap();
            }
            Box::pin(async move {
                match received == self.right {
                    true => Outcome::Accepted { rejected: 0, message: String::new() },
                    false => Outcome::Refused { cause: "401 Unauthorized".to_owned() },
                }
            })
        }
    }

    fn send(server: FakeServer, token: &Token) -> (Outcome, Vec<String>) {
        let way = Authorized { client: server, token: token.clone() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcome = runtime.block_on(way.send(Bytes::new()));
        (outcome, way.client.received.into_inner().unwrap())
    }

    fn server(right: &'static str) -> FakeServer {
        FakeServer { right, rotates: None, received: Mutex::default() }
    }

    #[test]
    fn a_configured_token_is_sent_and_not_debug_printed() {
        let token = Token::new(&Secret("open-sesame".to_owned()), PathBuf::new()).unwrap();
        assert!(!format!("{token:?}").contains("sesame"), "{token:?}");
        let (outcome, received) = send(server("Bearer open-sesame"), &token);
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
        assert_eq!(received, ["Bearer open-sesame"]);
        let nothing = Token::new(&Secret::default(), PathBuf::new()).unwrap();
        assert_eq!(send(server(""), &nothing).1, [""]);
    }

    #[test]
    fn a_file_is_read_before_each_request_and_again_after_a_refusal() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_path_buf();
        let token = Token::new(&Secret::default(), path.clone()).unwrap();
        for (inside, right) in [("one\n", "Bearer one"), ("two", "Bearer two")] {
            std::fs::write(&path, inside).unwrap();
            assert!(matches!(send(server(right), &token).0, Outcome::Accepted { .. }), "{right}");
        }
        // Rotated while a request with the old one was in flight.
        let meanwhile = FakeServer { rotates: Some((path.clone(), "three")), ..server("Bearer three") };
        let (outcome, received) = send(meanwhile, &token);
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
        assert_eq!(received, ["Bearer two", "Bearer three"]);
        let (outcome, received) = send(server("Bearer four"), &token);
        assert_eq!((outcome, received.len()), (Outcome::Refused { cause: "401 Unauthorized".to_owned() }, 1));
        for inside in ["", "two words"] {
            std::fs::write(&path, inside).unwrap();
            let (outcome, received) = send(server(""), &token);
            let Outcome::Unreached { cause, problem: Problem::Token } = outcome else {
                panic!("{outcome:?}")
            };
            assert!(
                cause.starts_with("plugins.otlp.bearer_token_file: /") && !cause.contains("words"),
                "{cause}"
            );
            assert_eq!(received.len(), 0, "nothing is sent without the token");
        }
        drop(file);
        let (outcome, _) = send(server(""), &token);
        assert!(matches!(outcome, Outcome::Unreached { cause, .. } if cause.contains("No such file")));
    }

    #[test]
    fn an_invalid_token_is_refused_by_its_key_and_not_shown() {
        for (token, file, key) in [
            ("two words", "", "bearer_token: "),
            ("a", "/b", "bearer_token_file: "),
            ("é", "", "bearer_token: "),
        ] {
            let error = Token::new(&Secret(token.to_owned()), file.into()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("plugins.otlp.{key}")) && !error.contains("words"), "{error}");
        }
    }
}
