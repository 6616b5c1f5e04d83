//! One HTTP request over whatever stream there is: a unix socket, TCP, TLS.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// Longest time that a request may take, connecting included.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) is_tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Url {
    /// `http://host:port` or `https://host:port`; a path has no place in it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|e| format!("is no URL: {e}"))?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("begins with neither http:// nor https://".to_owned()),
        };
        if !matches!(uri.path(), "" | "/") {
            return Err("has a path; give only scheme, host and port".to_owned());
        }
        let host = uri.host().ok_or_else(|| "has no host".to_owned())?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { is_tls, host, port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }) })
    }
}

/// Asks for `path`, and reads at most `limit` bytes of answer.
///
/// # Errors
/// Why there was no whole answer.
pub(crate) async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
    token: Option<&str>,
    limit: usize,
) -> Result<(StatusCode, Bytes), String> {
    let exchange = async {
        let (mut client, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let mut request = Request::get(path).header(HOST, host).header(ACCEPT, "application/json");
        if let Some(token) = token {
            let mut value =
                HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| "the token is none")?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let answer = async {
            let response = client.send_request(request).await.map_err(|e| e.to_string())?;
            let status = response.status();
            let body =
                Limited::new(response.into_body(), limit).collect().await.map_err(|e| e.to_string())?;
            Ok((status, body.to_bytes()))
        };
        tokio::pin!(answer, connection);
        let mut is_open = true;
        loop {
            tokio::select! {
                answer = &mut answer => return answer,
                // A server that closes has said all it has to say; the answer is in what was read.
                _ = &mut connection, if is_open => is_open = false,
            }
        }
    };
    match timeout(PATIENCE, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer in {PATIENCE:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port() {
        let url = |is_tls, host: &str, port| Ok(Url { is_tls, host: host.to_owned(), port });
        assert_eq!(Url::parse("https://10.0.0.1:10250"), url(true, "10.0.0.1", 10250));
        assert_eq!(Url::parse("http://kube/"), url(false, "kube", 80));
        assert_eq!(Url::parse("https://[::1]:6443"), url(true, "::1", 6443));
        for text in ["", "kube:1", "ftp://x", "https://x/pods", "https://x y"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }
}
