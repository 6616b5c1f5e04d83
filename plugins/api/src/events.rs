//! Events between plugins: a bus on which each type of event is a channel of its own. A plugin's own event is
//! any type of its own. Publishing never waits, and where nobody listens it costs a look.
//!
//! ```
//! use wattrace_api::events::{Events, Received};
//!
//! #[derive(Clone, Debug, PartialEq)]
//! struct LidClosed;
//!
//! let events = Events::default();
//! let mut lid = events.subscribe::<LidClosed>();
//! events.publish(LidClosed);
//! assert_eq!(lid.try_next(), Some(Received::Event(LidClosed)));
//! assert_eq!(lid.try_next(), None);
//! ```

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::subject::{Consumer, Domain, Resource};

/// Events of a type that a subscriber may be behind before it misses some.
const BEHIND: usize = 1024;

/// An energy counter has been opened. Published by the registry.
#[derive(Clone, Debug)]
pub struct ResourceAppeared {
    /// The hardware.
    pub resource: Resource,
    /// Its energy counter.
    pub domain: Arc<Domain>,
}

/// A consumer is there. Published by the source that found it.
#[derive(Clone, Debug)]
pub struct ConsumerStarted(pub Arc<Consumer>);

/// The bus.
#[derive(Clone, Debug, Default)]
pub struct Events(Arc<RwLock<HashMap<TypeId, Box<dyn Any + Send + Sync>>>>);

impl Events {
    /// Tells every subscriber of `E`. Never waits.
    pub fn publish<E: Clone + Send + 'static>(&self, event: E) {
        if let Some(channel) = self.channel::<E>() {
            // An error means that the last subscriber has just gone.
            let _ = channel.send(event);
        }
    }

    /// Whether anybody listens for `E`: ask before making an event that costs something to make.
    pub fn wanted<E: Clone + Send + 'static>(&self) -> bool {
        self.channel::<E>().is_some_and(|channel| channel.receiver_count() > 0)
    }

    /// Listens for `E` from now on, until the subscription is dropped.
    pub fn subscribe<E: Clone + Send + 'static>(&self) -> Subscription<E> {
        let mut channels = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let channel = channels
            .entry(TypeId::of::<E>())
            .or_insert_with(|| Box::new(broadcast::Sender::<E>::new(BEHIND)));
        match channel.downcast_ref::<broadcast::Sender<E>>() {
            Some(channel) => Subscription(channel.subscribe()),
            // Never: a channel's key is its type.
            None => Subscription(broadcast::Sender::new(1).subscribe()),
        }
    }

    fn channel<E: Clone + Send + 'static>(&self) -> Option<broadcast::Sender<E>> {
        let channels = self.0.read().unwrap_or_else(PoisonError::into_inner);
        channels.get(&TypeId::of::<E>())?.downcast_ref::<broadcast::Sender<E>>().cloned()
    }
}

/// What a subscriber receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received<E> {
    /// An event.
    Event(E),
    /// It did not listen for so long that so many events, the oldest, went by.
    Missed(u64),
}

/// Events of a type, in the order in which they were published. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription<E>(broadcast::Receiver<E>);

impl<E: Clone + Send + 'static> Subscription<E> {
    /// Waits for the next event; `None` once the agent has ended.
    pub async fn next(&mut self) -> Option<Received<E>> {
        match self.0.recv().await {
            Ok(event) => Some(Received::Event(event)),
            Err(RecvError::Lagged(missed)) => Some(Received::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event, if there is one already: for elements, which do not wait.
    pub fn try_next(&mut self) -> Option<Received<E>> {
        match self.0.try_recv() {
            Ok(event) => Some(Received::Event(event)),
            Err(TryRecvError::Lagged(missed)) => Some(Received::Missed(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct A(u64);
    #[derive(Clone, Debug, PartialEq)]
    struct B;

    #[test]
    fn each_type_reaches_its_subscribers_only_and_all_of_them() {
        let events = Events::default();
        events.publish(A(0));
        let (mut first, mut second, mut other) =
            (events.subscribe::<A>(), events.subscribe::<A>(), events.subscribe::<B>());
        events.publish(A(1));
        assert_eq!((first.try_next(), first.try_next()), (Some(Received::Event(A(1))), None));
        assert_eq!(second.try_next(), Some(Received::Event(A(1))));
        assert_eq!(other.try_next(), None);
    }

    #[test]
    fn a_dropped_subscription_is_not_counted() {
        let events = Events::default();
        assert!(!events.wanted::<A>());
        let subscription = events.subscribe::<A>();
        assert!(events.wanted::<A>() && !events.wanted::<B>());
        drop(subscription);
        assert!(!events.wanted::<A>());
    }

    #[test]
    fn a_slow_subscriber_learns_how_many_it_missed_and_the_publisher_never_waits() {
        let events = Events::default();
        let mut lazy = events.subscribe::<A>();
        let published = BEHIND as u64 + 10;
        (0..published).for_each(|n| events.publish(A(n)));
        assert_eq!(lazy.try_next(), Some(Received::Missed(10)));
        let received: Vec<_> = std::iter::from_fn(|| lazy.try_next()).collect();
        assert_eq!((received.len(), received.last()), (BEHIND, Some(&Received::Event(A(published - 1)))));
    }

    #[tokio::test]
    async fn a_subscriber_waits_for_the_next_event() {
        let events = Events::default();
        let mut subscription = events.subscribe::<A>();
        let (received, ()) = tokio::join!(subscription.next(), async { events.publish(A(7)) });
        assert_eq!(received, Some(Received::Event(A(7))));
    }
}
