//! What reads text that somebody else wrote, for fuzzers to throw bytes at. Nothing here is for use; each
//! function must return, whatever it is given, soon and without a panic.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Level;
use crate::facts::Facts;
use crate::names::pods::Pods;
use crate::names::{Subject, engine, http};
use crate::path::Place;
use crate::proc;

const LEVELS: [Level; 6] =
    [Level::Cgroup, Level::Unit, Level::Container, Level::Pod, Level::Job, Level::Machine];

/// A process's path in the unified hierarchy, and in the lines after it its `/proc/PID/cgroup`.
pub fn cgroup(text: &str) {
    let (path, legacy) = text.split_once('\n').unwrap_or((text, ""));
    for place in [Place::of(path), Place::of_all(Some(path), legacy), Place::of_all(None, legacy)] {
        let facts = Facts { place, ..Facts::default() };
        for level in LEVELS {
            // The group without an id is the rest: what is in no group.
            let is_rest = facts.key(level).is_some_and(|key| facts.id(level, &key).is_empty());
            assert!(!is_rest || level == Level::Cgroup, "a group has an id: {level:?} {facts:?}");
            _ = black_box(facts.of_group(level));
        }
        _ = black_box(facts.of_process());
    }
}

/// `/proc/PID/stat`.
pub fn stat(stat: &str) {
    _ = black_box(proc::parse(stat).map(proc::Living::start_nanos));
}

/// What a container engine answers about a container, and what a kubelet or an API server answers about pods.
pub fn json(body: &[u8]) {
    let id: Arc<str> = "0123456789ab".into();
    if let Ok(inspected) = engine::parse(body) {
        assert_eq!(engine::named(&id, &inspected).key, id, "the answer is about what was asked for");
    }
    let mut pods = Pods::new(vec!["app".to_owned(), "app.kubernetes.io/*".to_owned()]);
    if pods.read(body).is_ok() {
        let uid = "12345678-9abc-def0-1234-56789abcdef0".into();
        _ = black_box((
            pods.find(&Subject::Pod { uid }),
            pods.find(&Subject::Container { id, is_in_pod: true }),
        ));
    }
}

/// A server's answer, from its status line on. Returns the length of its body, if it is whole.
pub fn response(bytes: &[u8]) -> Option<usize> {
    const LIMIT: usize = 1 << 16;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
    let stream = Server { answer: bytes.to_vec().into(), is_asked: false, waiting: None };
    let answer = runtime.block_on(http::get(stream, "localhost", "/pods", Some("token"), LIMIT));
    let (_, body) = answer.ok()?;
    assert!(body.len() <= LIMIT);
    json(&body);
    Some(body.len())
}

/// A connection to a server that answers whatever it is asked, and closes.
struct Server {
    answer: VecDeque<u8>,
    is_asked: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for Server {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_asked {
            self.waiting = Some(context.waker().clone());
            return Poll::Pending;
        }
        let most = into.remaining().min(self.answer.len());
        into.put_slice(&self.answer.drain(..most).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Server {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_asked = true;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_server_is_heard() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(super::response(answer), Some(2));
        assert_eq!(super::response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}"), None, "cut short");
        assert_eq!(super::response(b""), None);
    }
}
