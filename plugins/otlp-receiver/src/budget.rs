//! Bytes in flight: what all requests together may hold in memory, from the first byte of a body to the last
//! point that is recorded. A request that finds nothing left is refused for now; none waits while it holds
//! some, so slow senders hold up nobody.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// All bytes that may be in flight.
#[derive(Debug)]
pub(crate) struct Budget {
    free: AtomicUsize,
}

/// No bytes are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes of requests are in flight")]
pub(crate) struct Exhausted;

impl Budget {
    /// A budget of `bytes`.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(bytes) })
    }

    /// What a request holds: nothing yet.
    pub(crate) fn reservation(self: &Arc<Self>) -> Reservation {
        Reservation { budget: self.clone(), taken: AtomicUsize::new(0) }
    }
}

/// The bytes of one request. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    taken: AtomicUsize,
}

impl Reservation {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// There are not so many.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let less = |free: usize| free.checked_sub(bytes);
        self.budget.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map_err(|_| Exhausted)?;
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.free.fetch_add(*self.taken.get_mut(), Ordering::Relaxed);
    }
}

/// A body whose bytes are taken from the budget as they arrive.
pub(crate) struct Metered<B> {
    pub(crate) body: B,
    pub(crate) reservation: Arc<Reservation>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl<B: Body<Data = Bytes, Error: Into<Failure>> + Unpin> Body for Metered<B> {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(frame) => frame.map_err(Into::into),
        };
        let frame = frame.and_then(|frame| {
            self.reservation.take(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        });
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    #[test]
    fn bytes_are_given_back_with_the_request_that_took_them() {
        let budget = Budget::new(100);
        let (a, b) = (budget.reservation(), budget.reservation());
        assert_eq!((a.take(60), b.take(41), b.take(40)), (Ok(()), Err(Exhausted), Ok(())));
        drop(a);
        assert_eq!((b.take(60), b.take(1)), (Ok(()), Err(Exhausted)));
    }

    #[tokio::test]
    async fn a_body_takes_what_arrives_and_fails_beyond_the_budget() {
        let budget = Budget::new(10);
        let collect = |bytes: &'static [u8]| {
            let reservation = Arc::new(budget.reservation());
            async move { Metered { body: Full::new(Bytes::from_static(bytes)), reservation }.collect().await }
        };
        assert_eq!(collect(b"0123456789").await.unwrap().to_bytes().len(), 10);
        assert!(collect(b"0123456789x").await.unwrap_err().is::<Exhausted>());
        assert!(collect(b"0123456789").await.is_ok(), "everything was given back");
    }
}
