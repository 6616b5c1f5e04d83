//! A task that looks up names at one place, and asks again, less and less often, for what that does not know
//! yet. Lookups of groups that have ended are dropped, and after a number of tries a name is given up.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info};
use wattrace_backoff::Backoff;

use super::lookup::{Answer, Lookup, Subject};

/// A place that knows names.
pub(crate) trait Resolver: Send + 'static {
    /// What it resolves, for messages.
    const NAMES: &'static str;

    /// The names of those `wanted` that it knows. It is asked for the others again, a few times.
    ///
    /// # Errors
    /// It could not be asked: why, and what to do about it.
    fn resolve(&mut self, wanted: &[Subject]) -> impl Future<Output = Result<Vec<Answer>, String>> + Send;
}

/// When to ask again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    /// The shortest time between two requests.
    pub(crate) first: Duration,
    /// The longest.
    pub(crate) longest: Duration,
    /// How often a name is asked for that the resolver does not know.
    pub(crate) tries: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60), tries: 8 }
    }
}

/// Starts the task. It ends when the sender of lookups is dropped.
pub(crate) fn spawn(
    runtime: &Handle,
    resolver: impl Resolver,
    retry: Retry,
    answered: mpsc::UnboundedSender<Answer>,
) -> mpsc::UnboundedSender<Lookup> {
    let (ask, lookups) = mpsc::unbounded_channel();
    let task = Task {
        resolver,
        retry,
        backoff: Backoff::new(retry.first, retry.longest),
        open: Vec::new(),
        next: Instant::now(),
        is_failing: false,
        answered,
    };
    runtime.spawn(task.run(lookups));
    ask
}

struct Open {
    lookup: Lookup,
    tries: u32,
}

struct Task<R> {
    resolver: R,
    retry: Retry,
    backoff: Backoff,
    open: Vec<Open>,
    /// Nothing is asked before this, so that many new groups, or many failures, cost one request.
    next: Instant,
    is_failing: bool,
    answered: mpsc::UnboundedSender<Answer>,
}

impl<R: Resolver> Task<R> {
    async fn run(mut self, mut lookups: mpsc::UnboundedReceiver<Lookup>) {
        loop {
            tokio::select! {
                lookup = lookups.recv() => match lookup {
                    Some(lookup) => self.open.push(Open { lookup, tries: 0 }),
                    None => return,
                },
                () = tokio::time::sleep_until(self.next), if !self.open.is_empty() => self.resolve().await,
            }
        }
    }

    async fn resolve(&mut self) {
        self.open.retain(|open| open.lookup.group.strong_count() > 0);
        if self.open.is_empty() {
            return;
        }
        let wanted: Vec<_> = self.open.iter().map(|open| open.lookup.subject.clone()).collect();
        match self.resolver.resolve(&wanted).await {
            Ok(answers) => self.take(answers),
            Err(why) if std::mem::replace(&mut self.is_failing, true) => debug!("{}: {why}", R::NAMES),
            Err(why) => info!("{}: {why}; they are shown by their ids until this works", R::NAMES),
        }
        if self.open.is_empty() {
            self.backoff.reset();
            self.next = Instant::now() + self.retry.first;
        } else {
            self.next = Instant::now() + self.backoff.next_wait();
        }
    }

    fn take(&mut self, answers: Vec<Answer>) {
        if std::mem::take(&mut self.is_failing) {
            info!("{}: they are available again", R::NAMES);
        }
        let most = self.retry.tries;
        self.open.retain_mut(|open| {
            open.tries += 1;
            open.tries < most && !answers.iter().any(|answer| answer.is_about(&open.lookup.subject))
        });
        if !answers.is_empty() {
            self.backoff.reset();
        }
        answers.into_iter().for_each(|answer| drop(self.answered.send(answer)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use wattrace_api::{Consumer, ConsumerKind};

    use super::*;
    use crate::level::Level;

    /// Fails twice, then knows user 7 only.
    struct Slow(Arc<AtomicU32>);

    impl Resolver for Slow {
        const NAMES: &'static str = "names of a test";

        async fn resolve(&mut self, wanted: &[Subject]) -> Result<Vec<Answer>, String> {
            if self.0.fetch_add(1, Ordering::SeqCst) < 2 {
                return Err("not now".to_owned());
            }
            let known = wanted.iter().filter(|subject| **subject == Subject::User(7));
            let answer =
                Answer { level: Level::User, key: "7".into(), of_group: vec![], of_processes: vec![] };
            Ok(known.map(|_| answer.clone()).collect())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_less_and_less_often_and_gives_up_unknown_names() {
        let asked = Arc::new(AtomicU32::new(0));
        let (answered, mut answers) = mpsc::unbounded_channel();
        let retry = Retry { tries: 3, ..Retry::default() };
        let ask = spawn(&Handle::current(), Slow(asked.clone()), retry, answered);
        let group = Arc::new(Consumer::closing(ConsumerKind::User));
        let begun = Instant::now();
        for user in [7, 8] {
            ask.send(Lookup { subject: Subject::User(user), group: Arc::downgrade(&group) }).unwrap();
        }
        assert_eq!(&*answers.recv().await.unwrap().key, "7");
        // Waits of 1 s and 2 s, each up to half shorter by chance.
        let waited = begun.elapsed().as_secs_f64();
        assert!((1.5..3.1).contains(&waited), "two failures came first: {waited}");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(asked.load(Ordering::SeqCst), 2 + 3, "two failures and three tries");
        // Names of groups that have ended are not asked for.
        drop(group);
        let gone = Arc::downgrade(&Arc::new(Consumer::closing(ConsumerKind::User)));
        ask.send(Lookup { subject: Subject::User(7), group: gone }).unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(asked.load(Ordering::SeqCst), 5);
        assert!(answers.try_recv().is_err());
        drop(ask);
        assert!(answers.recv().await.is_none(), "the task has ended");
    }
}
