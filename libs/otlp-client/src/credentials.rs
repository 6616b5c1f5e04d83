//! Secrets that a collector requires, and that may be in files: the bearer token and headers. Files are read
//! before each request, so that what is replaced while the agent runs takes effect at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use tokio::task::spawn_blocking;
use wattrace_api::{Error, Secret};

use crate::env::Env;
use crate::headers;
use crate::transport::{OtlpClient, Outcome, Problem, Sending, Transport};

/// The most bytes of a file. A longer one holds no token and no headers.
const LONGEST: u64 = 1 << 16;

/// Where the secrets are.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// The table of the configuration, for messages.
    section: &'static str,
    token: Token,
    headers: Option<Arc<PathBuf>>,
}

#[derive(Clone, Debug)]
enum Token {
    None,
    Given(HeaderValue),
    File(Arc<PathBuf>),
}

impl Credentials {
    /// An empty path is no file.
    ///
    /// # Errors
    /// Two tokens, or one that no header can hold; the message names the key.
    pub(crate) fn new(
        token: &Secret,
        token_file: &Path,
        headers: &Path,
        env: &Env<'_>,
    ) -> Result<Self, Error> {
        let file = |path: &Path| (!path.as_os_str().is_empty()).then(|| Arc::new(path.to_owned()));
        let token = match (token.is_empty(), file(token_file)) {
            (true, None) => Token::None,
            (true, Some(file)) => Token::File(file),
            (false, None) => bearer(&token.0).map(Token::Given).map_err(|e| env.bad("bearer_token", e))?,
            (false, Some(_)) => {
                return Err(env.bad("bearer_token_file", "there is a bearer_token as well: name one of them"));
            }
        };
        Ok(Self { section: env.signal.section, token, headers: file(headers) })
    }

    /// Whether there are any.
    pub(crate) fn is_any(&self) -> bool {
        self.has_token() || self.headers.is_some()
    }

    /// Whether there is a bearer token.
    pub(crate) fn has_token(&self) -> bool {
        !matches!(self.token, Token::None)
    }

    fn has_files(&self) -> bool {
        matches!(self.token, Token::File(_)) || self.headers.is_some()
    }

    /// The headers to send now.
    ///
    /// # Errors
    /// A file that cannot be read, or that holds no token or no headers.
    async fn now(&self) -> Result<HeaderMap, String> {
        if !self.has_files() {
            return self.read();
        }
        // Reading may be slow (a network file system) and must not block the runtime's workers.
        let credentials = self.clone();
        spawn_blocking(move || credentials.read()).await.map_err(|e| e.to_string())?
    }

    fn read(&self) -> Result<HeaderMap, String> {
        let text = |key: &str, path: &Path| {
            let text = wattrace_api::files::read_text(path, LONGEST);
            text.map_err(|e| self.problem(key, path, &e))
        };
        let mut headers = match &self.headers {
            Some(path) => {
                let key = "headers_file";
                headers::of_text(&text(key, path)?).map_err(|e| self.problem(key, path, &e))?
            }
            None => HeaderMap::new(),
        };
        let token = match &self.token {
            Token::None => return Ok(headers),
            Token::Given(token) => token.clone(),
            Token::File(path) => {
                let key = "bearer_token_file";
                bearer(text(key, path)?.trim()).map_err(|e| self.problem(key, path, &e))?
            }
        };
        headers.insert(AUTHORIZATION, token);
        Ok(headers)
    }

    fn problem(&self, key: &str, path: &Path, problem: &dyn std::fmt::Display) -> String {
        format!("{}.{key}: {}: {problem}", self.section, path.display())
    }
}

fn bearer(token: &str) -> Result<HeaderValue, &'static str> {
    const PROBLEM: &str = "it must be one token of letters, digits and punctuation, without spaces";
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(PROBLEM);
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| PROBLEM)?;
    // Printed as `Sensitive`.
    header.set_sensitive(true);
    Ok(header)
}

/// A client and the credentials that it sends with each request.
pub(crate) struct Authorized<C> {
    pub(crate) client: C,
    pub(crate) credentials: Credentials,
}

impl<C: OtlpClient> Transport for Authorized<C> {
    fn send(&self, request: Bytes) -> Sending<'_> {
        Box::pin(async move {
            let first = match self.credentials.now().await {
                Ok(headers) => headers,
                Err(cause) => return Outcome::Unreached { cause, problem: Problem::Credentials },
            };
            let outcome = self.client.send(request.clone(), first.clone()).await;
            if !matches!(outcome, Outcome::Refused { .. }) || !self.credentials.has_files() {
                return outcome;
            }
            // They may have been replaced after they were read.
            match self.credentials.now().await {
                Ok(second) if second != first => self.client.send(request, second).await,
                _ => outcome,
            }
        })
    }
}

#[cfg(test)]
mod tests;
