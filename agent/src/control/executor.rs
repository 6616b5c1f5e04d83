//! Carries out the commands of `command.rs` through the pipeline's control, and makes the replies of
//! `protocol.rs`.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::command::Command;
use super::protocol::{AgentInfo, Problem, ProblemKind, Reply};
use super::reload::{Refused, Reloader};
use super::viewers::Viewers;
use crate::pattern::Pattern;
use crate::pipeline::control::{Control, ControlError, Done};
use crate::pipeline::status::{Condition, ElementStatus};

/// Time limit of elements for a command; those that exceed it are reported as late.
const ELEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit of a reload for the reply. The reload itself continues.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a reload waits for outputs to look for their files.
const REOPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// Minimum similarity, from 0 to 1, of a name that is suggested.
const MIN_SIMILARITY: f64 = 0.6;

/// Maximum number of suggested names.
const MAX_SUGGESTIONS: usize = 3;

/// Carries out commands on a pipeline.
pub(crate) struct Executor {
    control: Control,
    reloader: Arc<Reloader>,
    start: SystemTime,
    /// The configured interval of each element whose interval was set by a command.
    configured: Mutex<BTreeMap<String, Duration>>,
    viewers: Viewers,
}

impl Executor {
    /// An executor for the pipeline that `control` controls.
    pub(crate) fn new(control: Control, reloader: Reloader) -> Self {
        let (start, configured) = (SystemTime::now(), Mutex::default());
        let (viewers, reloader) = (Viewers::new(control.clone()), Arc::new(reloader));
        Self { control, reloader, start, configured, viewers }
    }

    /// The subscriptions to what viewers show.
    pub(crate) fn viewers(&self) -> &Viewers {
        &self.viewers
    }

    /// Carries out `command`, which is not `subscribe`: that is answered by many lines (`server.rs`).
    pub(crate) async fn execute(&self, command: Command) -> Reply {
        let name = command.name();
        let result = match command {
            Command::Status { element } => self.status(&element),
            Command::List { element } => self.list(&element),
            Command::Pause { element } => self.reply(self.control.pause(&element)),
            Command::Resume { element } => self.reply(self.control.resume(&element)),
            Command::Trigger { element } => self.run(|by| self.control.trigger(&element, by)).await,
            Command::Flush { element } => self.run(|by| self.control.flush(&element, by)).await,
            Command::SetInterval { element, interval: Some(interval) } => {
                self.set_interval(&element, interval)
            }
            Command::SetInterval { element, interval: None } => self.reset_interval(&element),
            Command::Reload {} => self.reload().await,
            Command::Subscribe {} => Ok(Reply::done("")),
        };
        let reply = result.unwrap_or_else(|problem| Reply::refused("", problem));
        Reply { command: name.into(), ..reply }
    }

    /// Reloads because of a signal: the reply goes to the log.
    pub(crate) async fn reload_and_log(&self) {
        let reply = self.reload().await.unwrap_or_else(|problem| Reply::refused("", problem));
        if let Some(reloaded) = &reply.reload {
            info!("{reloaded}");
            if !reloaded.needs_restart.is_empty() {
                warn!("takes effect when the agent is restarted: {}", reloaded.needs_restart.join(", "));
            }
        }
        if let Some(problem) = reply.error {
            error!("{}", problem.message);
            problem.problems.iter().for_each(|p| error!("{p}"));
        }
    }

    fn status(&self, pattern: &Pattern) -> Result<Reply, Problem> {
        let elements = self.control.status(pattern);
        if elements.is_empty() {
            return Err(self.no_match(pattern));
        }
        Ok(Reply { agent: Some(self.agent()), elements: Some(elements), ..Reply::done("") })
    }

    /// This agent.
    pub(crate) fn agent(&self) -> AgentInfo {
        let since_epoch = self.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        AgentInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            start_unix_nano: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    fn list(&self, pattern: &Pattern) -> Result<Reply, Problem> {
        let names: Vec<_> = self.control.status(pattern).into_iter().map(|e| e.name).collect();
        if names.is_empty() {
            return Err(self.no_match(pattern));
        }
        Ok(Reply { names: Some(names), ..Reply::done("") })
    }

    /// The reply to a command that elements carry out at once.
    fn reply(&self, result: Result<Done, ControlError>) -> Result<Reply, Problem> {
        let Done { done, late } = result.map_err(|e| self.problem(e))?;
        Ok(Reply { done: Some(done), late: Some(late), ..Reply::done("") })
    }

    /// Runs a command that elements carry out until a deadline, and reports which of them failed.
    async fn run<F>(&self, start: impl FnOnce(Instant) -> F) -> Result<Reply, Problem>
    where
        F: Future<Output = Result<Done, ControlError>>,
    {
        let all = self.control.status(&Pattern::all());
        let errors_before: BTreeMap<_, _> = all.into_iter().map(|e| (e.name, e.errors)).collect();
        let Done { mut done, late } =
            start(Instant::now() + ELEMENT_TIMEOUT).await.map_err(|e| self.problem(e))?;
        // An element that failed during the command may be running again, for example with the next batch.
        let has_failed = |e: &ElementStatus| e.errors > errors_before.get(&e.name).copied().unwrap_or(0);
        let mut elements = self.control.status(&Pattern::all());
        elements.retain(|e| done.contains(&e.name) && (e.has_problem() || has_failed(e)));
        let fails =
            |e: &ElementStatus| matches!(e.state, Condition::Failing | Condition::Stuck) || has_failed(e);
        let failing: Vec<_> = elements.iter().filter(|e| fails(e)).map(|e| e.name.as_str()).collect();
        let error = if !late.is_empty() {
            let message = format!("not done within {ELEMENT_TIMEOUT:?}: {}", late.join(", "));
            Some(Problem::new(ProblemKind::Late, message))
        } else if !failing.is_empty() {
            Some(Problem::new(ProblemKind::Failed, format!("tried, and failed: {}", failing.join(", "))))
        } else {
            None
        };
        done.retain(|name| !failing.contains(&name.as_str()));
        let (done, late, elements) = (Some(done), Some(late), Some(elements));
        Ok(Reply { ok: error.is_none(), error, elements, done, late, ..Reply::done("") })
    }

    fn set_interval(&self, pattern: &Pattern, interval: Duration) -> Result<Reply, Problem> {
        let before = self.control.status(pattern);
        let reply = self.reply(self.control.set_interval(pattern, interval))?;
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, ticks) in before.into_iter().filter_map(|s| Some((s.name, s.ticks?))) {
            configured.entry(name).or_insert(Duration::from_nanos(ticks.interval_ns));
        }
        Ok(reply)
    }

    /// Sets the interval of sources to the configured one.
    fn reset_interval(&self, pattern: &Pattern) -> Result<Reply, Problem> {
        let matching = self.control.status(pattern);
        if matching.is_empty() {
            return Err(self.no_match(pattern));
        }
        let mut all = Done::default();
        for (name, ticks) in matching.into_iter().filter_map(|s| Some((s.name, s.ticks?))) {
            let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
            let interval = configured.remove(&name).unwrap_or(Duration::from_nanos(ticks.interval_ns));
            drop(configured);
            let exactly = name.parse().map_err(|e| Problem::new(ProblemKind::NoMatch, e))?;
            let one = self.control.set_interval(&exactly, interval).map_err(|e| self.problem(e))?;
            all.done.extend(one.done);
        }
        if all.done.is_empty() {
            return Err(Problem::new(ProblemKind::NotFor, format!("{pattern} matches no source")));
        }
        self.reply(Ok(all))
    }

    async fn reload(&self) -> Result<Reply, Problem> {
        let reloader = self.reloader.clone();
        // A task of its own, so that the reload completes even if the client disconnects.
        let reloading = tokio::spawn(async move { reloader.reload().await });
        let reloaded = match timeout(RELOAD_TIMEOUT, reloading).await {
            Ok(Ok(Ok(reloaded))) => reloaded,
            Ok(Ok(Err(Refused(problems)))) => {
                let message = "the new configuration is refused; the old one is in force";
                return Err(Problem { problems, ..Problem::new(ProblemKind::BadConfig, message) });
            }
            Ok(Err(e)) => return Err(Problem::new(ProblemKind::Failed, format!("the reload failed: {e}"))),
            Err(_) => {
                let message = format!("the reload takes longer than {RELOAD_TIMEOUT:?}; it continues");
                return Err(Problem::new(ProblemKind::Late, message));
            }
        };
        // Whoever has renamed an output's file reloads: a flush looks for the file at its path.
        let _ = self.control.flush(&Pattern::all(), Instant::now() + REOPEN_TIMEOUT).await;
        let is_new = |name: &str| reloaded.has_new(plugin_of(name));
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        configured.retain(|name, _| !is_new(name));
        drop(configured);
        let mut elements = self.control.status(&Pattern::all());
        elements.retain(|e| is_new(&e.name) && e.has_problem());
        Ok(Reply { elements: Some(elements), reload: Some(reloaded), ..Reply::done("") })
    }

    fn problem(&self, error: ControlError) -> Problem {
        match error {
            ControlError::NoMatch { pattern, .. } => self.no_match(&pattern),
            ControlError::NotFor { .. } => Problem::new(ProblemKind::NotFor, error),
            ControlError::Value(_) => Problem::new(ProblemKind::BadValue, error),
        }
    }

    fn no_match(&self, pattern: &Pattern) -> Problem {
        let names: Vec<_> = self.control.status(&Pattern::all()).into_iter().map(|e| e.name).collect();
        let nearest = nearest(&pattern.to_string(), &names);
        let hint = match &nearest[..] {
            [] => format!("there are {}", names.join(", ")),
            [nearest] => format!("did you mean {nearest}?"),
            several => format!("nearest: {}", several.join(", ")),
        };
        let message = format!("no element matches {pattern}; {hint}");
        Problem { nearest, ..Problem::new(ProblemKind::NoMatch, message) }
    }
}

/// `PLUGIN` of `KIND/PLUGIN/ELEMENT`.
fn plugin_of(name: &str) -> &str {
    name.split('/').nth(1).unwrap_or_default()
}

/// The names most similar to `pattern`, the most similar first.
fn nearest(pattern: &str, names: &[String]) -> Vec<String> {
    let similarity = |name: &String| strsim::normalized_damerau_levenshtein(name, pattern);
    let mut near: Vec<_> = names.iter().map(|name| (similarity(name), name)).collect();
    near.retain(|(similarity, _)| *similarity >= MIN_SIMILARITY);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_suggested_and_others_are_not() {
        let names = ["source/rapl/energy", "source/sched/cpu", "output/jsonl/jsonl"].map(String::from);
        assert_eq!(nearest("source/rapl/enrgy", &names)[0], "source/rapl/energy");
        assert!(!nearest("source/rapl/enrgy", &names).contains(&names[2]));
        assert_eq!(nearest("output/*", &names), Vec::<String>::new());
    }
}
