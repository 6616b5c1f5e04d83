//! Asks one source of names, and asks again, later and later, for what it could not say yet. A group that is
//! over is no longer asked for, and one that nobody knows is given up.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{Answer, Question, Subject};

/// Someone who knows names.
pub(crate) trait Oracle: Send + 'static {
    /// For messages: what it names, and who it is.
    const NAMES: &'static str;

    /// Answers what it can of `wanted`. What it leaves out it is asked again, a few times.
    ///
    /// # Errors
    /// It could not be asked; why, with what to do about it.
    fn answer(&mut self, wanted: &[Subject]) -> impl Future<Output = Result<Vec<Answer>, String>> + Send;
}

/// When to ask again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Time to the first repetition; each further one comes after twice the time.
    pub(crate) first: Duration,
    /// The longest time.
    pub(crate) longest: Duration,
    /// How often somebody is asked for that the oracle does not know.
    pub(crate) tries: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), longest: Duration::from_secs(60), tries: 8 }
    }
}

/// Sets the asker going. It ends when the sender is dropped.
pub(crate) fn spawn(
    runtime: &Handle,
    oracle: impl Oracle,
    pace: Pace,
    tell: mpsc::UnboundedSender<Answer>,
) -> mpsc::UnboundedSender<Question> {
    let (ask, questions) = mpsc::unbounded_channel();
    runtime.spawn(run(oracle, pace, questions, tell));
    ask
}

struct Open {
    question: Question,
    tries: u32,
}

async fn run<O: Oracle>(
    mut oracle: O,
    pace: Pace,
    mut questions: mpsc::UnboundedReceiver<Question>,
    tell: mpsc::UnboundedSender<Answer>,
) {
    let mut open: Vec<Open> = Vec::new();
    let (mut wait, mut is_failing) = (pace.first, false);
    // Nothing is asked before this, so that a crowd of new groups, or of failures, is one question.
    let mut next = Instant::now();
    loop {
        tokio::select! {
            question = questions.recv() => match question {
                Some(question) => open.push(Open { question, tries: 0 }),
                None => return,
            },
            () = tokio::time::sleep_until(next), if !open.is_empty() => {
                open.retain(|open| open.question.group.strong_count() > 0);
                if open.is_empty() {
                    continue;
                }
                let wanted: Vec<_> = open.iter().map(|open| open.question.subject.clone()).collect();
                match oracle.answer(&wanted).await {
                    Ok(answers) => {
                        if std::mem::take(&mut is_failing) {
                            info!("{}: they are told again", O::NAMES);
                        }
                        open.retain_mut(|open| {
                            open.tries += 1;
                            !answers.iter().any(|answer| answer.is_to(&open.question.subject)) && open.tries < pace.tries
                        });
                        if !answers.is_empty() {
                            wait = pace.first;
                        }
                        answers.into_iter().for_each(|answer| drop(tell.send(answer)));
                    }
                    Err(why) if std::mem::replace(&mut is_failing, true) => debug!("{}: {why}", O::NAMES),
                    Err(why) => info!("{}: {why}; until then they go by their ids", O::NAMES),
                }
                next = Instant::now() + wait;
                wait = (wait * 2).min(pace.longest);
                if open.is_empty() {
                    (next, wait) = (Instant::now() + pace.first, pace.first);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use wattrace_api::{Consumer, ConsumerKind};

    use super::*;
    use crate::config::Level;

    /// Fails twice, then knows user 7 only.
    struct Slow(Arc<AtomicU32>);

    impl Oracle for Slow {
        const NAMES: &'static str = "names of a test";

        async fn answer(&mut self, wanted: &[Subject]) -> Result<Vec<Answer>, String> {
            if self.0.fetch_add(1, Ordering::SeqCst) < 2 {
                return Err("not now".to_owned());
            }
            let known = wanted.iter().filter(|subject| **subject == Subject::User(7));
            Ok(known
                .map(|_| Answer {
                    level: Level::User,
                    key: "7".into(),
                    of_group: vec![],
                    of_processes: vec![],
                })
                .collect())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_again_later_and_later_and_gives_up_what_nobody_knows() {
        let asked = Arc::new(AtomicU32::new(0));
        let (tell, mut answers) = mpsc::unbounded_channel();
        let pace = Pace { tries: 3, ..Pace::default() };
        let ask = spawn(&Handle::current(), Slow(asked.clone()), pace, tell);
        let group = Arc::new(Consumer::closing(ConsumerKind::User));
        let begun = Instant::now();
        for user in [7, 8] {
            ask.send(Question { subject: Subject::User(user), group: Arc::downgrade(&group) }).unwrap();
        }
        assert_eq!(&*answers.recv().await.unwrap().key, "7");
        assert_eq!(begun.elapsed().as_secs(), 1 + 2, "after two failures");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(asked.load(Ordering::SeqCst), 2 + 3, "two failures and three tries");
        // Whose group is over is not asked for.
        drop(group);
        let gone = Arc::downgrade(&Arc::new(Consumer::closing(ConsumerKind::User)));
        ask.send(Question { subject: Subject::User(7), group: gone }).unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(asked.load(Ordering::SeqCst), 5);
        assert!(answers.try_recv().is_err());
        drop(ask);
        assert!(answers.recv().await.is_none(), "it has ended");
    }
}
