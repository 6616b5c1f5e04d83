//! For fuzzing: the client against a server that answers with given bytes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Request, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_service::Service;

use crate::client::{Limits, client, exchange};
use crate::connect::Stream;

/// The body of the answer that `bytes` are, from the status line on; `None` if they are not a whole answer of
/// at most `limit` bytes.
pub fn body(bytes: &[u8], limit: usize) -> Option<Bytes> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    let limits = Limits { time: Duration::from_secs(10), bytes: limit };
    let request = Request::get("http://localhost/").body(Bytes::new()).ok()?;
    let client = client(Scripted(bytes.to_vec()));
    runtime.block_on(exchange(&client, request, limits)).ok()?.body.ok()
}

/// Connects to a server that reads a request, sends these bytes, and closes.
#[derive(Clone)]
struct Scripted(Vec<u8>);

impl Service<Uri> for Scripted {
    type Response = Stream;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let answer = self.0.clone();
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(async move {
            let mut request = [0; 1024];
            if theirs.read(&mut request).await.is_ok() {
                // The client may close first.
                _ = theirs.write_all(&answer).await;
            }
        });
        Box::pin(async move { Ok(Stream::new(ours)) })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_a_whole_answer_within_the_limit_has_a_body() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(super::body(answer, 2).as_deref(), Some(&b"{}"[..]));
        assert_eq!(super::body(answer, 1), None);
        assert_eq!(super::body(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", 9), None);
        assert_eq!(super::body(b"", 9), None);
    }
}
