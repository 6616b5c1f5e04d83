//! From a command to its reply: asks the pipeline's control, and puts what it says into the words of the
//! protocol.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, timeout};
use tracing::{error, info, warn};

use super::element::Element;
use super::protocol::{AgentInfo, Command, Kind, Problem, Reply};
use super::reload::{Refused, Reloader};
use crate::pipeline::control::{Control, ControlError, Done};
use crate::pipeline::pattern::Pattern;

/// How long elements may take to do what they are told before the reply says that they have not.
const ELEMENTS: Duration = Duration::from_secs(10);

/// How long a reload may take before the reply says that it is not over. It goes on all the same.
const RELOADING: Duration = Duration::from_secs(30);

/// At least this much alike, of 1, is near.
const NEAR: f64 = 0.6;

/// Near names that are told.
const MOST_NEAR: usize = 3;

/// Carries out commands upon a pipeline.
pub(crate) struct Commands {
    control: Control,
    reloader: Arc<Reloader>,
    start: SystemTime,
    /// Intervals as the configuration has them, of the elements whose interval was set.
    configured: Mutex<BTreeMap<String, Duration>>,
}

impl Commands {
    /// Commands upon the pipeline that `control` controls.
    pub(crate) fn new(control: Control, reloader: Reloader) -> Self {
        let (start, configured) = (SystemTime::now(), Mutex::default());
        Self { control, reloader: Arc::new(reloader), start, configured }
    }

    /// Carries out `command`.
    pub(crate) async fn answer(&self, command: Command) -> Reply {
        let name = command.name();
        let answered = match command {
            Command::Status { element } => self.status(&element),
            Command::List { element } => self.list(&element),
            Command::Pause { element } => self.control.pause(&element).map(done).map_err(|e| self.problem(e)),
            Command::Resume { element } => {
                self.control.resume(&element).map(done).map_err(|e| self.problem(e))
            }
            Command::Trigger { element } => {
                self.asked(self.control.trigger(&element, Instant::now() + ELEMENTS)).await
            }
            Command::Flush { element } => {
                self.asked(self.control.flush(&element, Instant::now() + ELEMENTS)).await
            }
            Command::SetInterval { element, interval } => self.set_interval(&element, interval),
            Command::Reload {} => self.reload().await,
        };
        let reply = answered.unwrap_or_else(|problem| Reply::refused("", problem));
        Reply { command: name.into(), ..reply }
    }

    /// Reloads because of a signal: what a client would be told goes to the log.
    pub(crate) async fn reload_and_log(&self) {
        let reply = self.reload().await.unwrap_or_else(|problem| Reply::refused("", problem));
        if let Some(reloaded) = &reply.reload {
            info!("{reloaded}");
            if !reloaded.needs_restart.is_empty() {
                warn!("to be in force after a restart only: {}", reloaded.needs_restart.join(", "));
            }
        }
        if let Some(problem) = reply.error {
            error!("{}", problem.message);
            problem.problems.iter().for_each(|p| error!("{p}"));
        }
    }

    fn status(&self, pattern: &Pattern) -> Result<Reply, Problem> {
        let elements = self.elements(|name| pattern.matches(name));
        if elements.is_empty() {
            return Err(self.no_match(pattern));
        }
        let since_epoch = self.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        let agent = AgentInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            start_unix_nano: u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX),
        };
        Ok(Reply { agent: Some(agent), elements: Some(elements), ..Reply::done("") })
    }

    fn list(&self, pattern: &Pattern) -> Result<Reply, Problem> {
        let names: Vec<_> = self.elements(|name| pattern.matches(name)).into_iter().map(|e| e.name).collect();
        if names.is_empty() {
            return Err(self.no_match(pattern));
        }
        Ok(Reply { names: Some(names), ..Reply::done("") })
    }

    /// What became of telling elements to do something, and which of them do not work.
    async fn asked(
        &self,
        asking: impl Future<Output = Result<Done, ControlError>>,
    ) -> Result<Reply, Problem> {
        let errors = |e: &Element| (e.name.clone(), e.errors);
        let before: BTreeMap<_, _> = self.elements(|_| true).iter().map(errors).collect();
        let told = asking.await.map_err(|e| self.problem(e))?;
        let mut elements = self.elements(|name| told.done.iter().any(|done| done == name));
        // What failed on the way may work again by now, with the next batch, say.
        let failed = |e: &Element| e.errors > before.get(&e.name).copied().unwrap_or(0);
        elements.retain(|e| e.is_in_trouble() || failed(e));
        let failing: Vec<_> =
            elements.iter().filter(|e| e.fails() || failed(e)).map(|e| e.name.as_str()).collect();
        let error = if !told.late.is_empty() {
            let message = format!("not done within {ELEMENTS:?}: {}", told.late.join(", "));
            Some(Problem::new(Kind::Late, message))
        } else if !failing.is_empty() {
            Some(Problem::new(Kind::Failed, format!("tried, and failed: {}", failing.join(", "))))
        } else {
            None
        };
        let done = told.done.into_iter().filter(|name| !failing.contains(&name.as_str())).collect();
        let (late, elements) = (Some(told.late), Some(elements));
        Ok(Reply { ok: error.is_none(), error, elements, done: Some(done), late, ..Reply::done("") })
    }

    fn set_interval(&self, pattern: &Pattern, interval: Option<Duration>) -> Result<Reply, Problem> {
        let Some(interval) = interval else { return self.reset_interval(pattern) };
        let before = self.control.status(pattern);
        let told = self.control.set_interval(pattern, interval).map_err(|e| self.problem(e))?;
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, ticks) in before.into_iter().filter_map(|s| Some((s.name, s.ticks?))) {
            configured.entry(name).or_insert(Duration::from_nanos(ticks.interval_ns));
        }
        Ok(done(told))
    }

    /// Gives sources back the intervals that the configuration has for them.
    fn reset_interval(&self, pattern: &Pattern) -> Result<Reply, Problem> {
        let mut told = Done::default();
        for (name, ticks) in self.control.status(pattern).into_iter().filter_map(|s| Some((s.name, s.ticks?)))
        {
            let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
            let interval = configured.remove(&name).unwrap_or(Duration::from_nanos(ticks.interval_ns));
            drop(configured);
            let exactly = name.parse().map_err(|e| Problem::new(Kind::NoMatch, e))?;
            let one = self.control.set_interval(&exactly, interval).map_err(|e| self.problem(e))?;
            told.done.extend(one.done);
        }
        if told.done.is_empty() {
            let what = "is the name of no source that is polled";
            let problem = if self.control.status(pattern).is_empty() {
                self.no_match(pattern)
            } else {
                Problem::new(Kind::NotFor, format!("{pattern} {what}"))
            };
            return Err(problem);
        }
        Ok(done(told))
    }

    async fn reload(&self) -> Result<Reply, Problem> {
        let reloader = self.reloader.clone();
        // On its own, so that it comes to an end even if nobody waits for it any more.
        let reloading = tokio::spawn(async move { reloader.reload().await });
        let reloaded = match timeout(RELOADING, reloading).await {
            Ok(Ok(Ok(reloaded))) => reloaded,
            Ok(Ok(Err(Refused(problems)))) => {
                let message = "the new configuration is refused; the old one is in force";
                return Err(Problem { problems, ..Problem::new(Kind::BadConfig, message) });
            }
            Ok(Err(e)) => return Err(Problem::new(Kind::Failed, format!("the reload came to grief: {e}"))),
            Err(_) => {
                let message = format!("the reload is not over after {RELOADING:?}; it goes on");
                return Err(Problem::new(Kind::Late, message));
            }
        };
        let fresh = |name: &str| reloaded.has_new(plugin_of(name));
        let mut configured = self.configured.lock().unwrap_or_else(PoisonError::into_inner);
        configured.retain(|name, _| !fresh(name));
        drop(configured);
        let mut elements = self.elements(fresh);
        elements.retain(Element::is_in_trouble);
        Ok(Reply { elements: Some(elements), reload: Some(reloaded), ..Reply::done("") })
    }

    /// The elements whose name `is` wanted.
    fn elements(&self, is: impl Fn(&str) -> bool) -> Vec<Element> {
        let all = self.control.status(&Pattern::all()).into_iter();
        all.filter(|status| is(&status.name)).map(Element::from).collect()
    }

    fn problem(&self, error: ControlError) -> Problem {
        match error {
            ControlError::NoMatch { pattern, .. } => self.no_match(&pattern),
            ControlError::NotFor { .. } => Problem::new(Kind::NotFor, error),
            ControlError::Value(_) => Problem::new(Kind::BadValue, error),
        }
    }

    fn no_match(&self, pattern: &Pattern) -> Problem {
        let there: Vec<_> = self.elements(|_| true).into_iter().map(|e| e.name).collect();
        let nearest = nearest(&pattern.to_string(), &there);
        let hint = match &nearest[..] {
            [] => format!("there are {}", there.join(", ")),
            [nearest] => format!("did you mean {nearest}?"),
            several => format!("nearest: {}", several.join(", ")),
        };
        Problem { nearest, ..Problem::new(Kind::NoMatch, format!("no element matches {pattern}; {hint}")) }
    }
}

fn done(told: Done) -> Reply {
    Reply { done: Some(told.done), late: Some(told.late), ..Reply::done("") }
}

/// `PLUGIN` of `KIND/PLUGIN/ELEMENT`.
fn plugin_of(name: &str) -> &str {
    name.split('/').nth(1).unwrap_or_default()
}

/// The names that are nearest to `pattern`, the nearest first.
fn nearest(pattern: &str, names: &[String]) -> Vec<String> {
    let near = |name: &&String| strsim::normalized_damerau_levenshtein(name, pattern);
    let mut near: Vec<_> = names.iter().map(|n| (near(&n), n)).filter(|(near, _)| *near >= NEAR).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(MOST_NEAR).map(|(_, name)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not_told() {
        let names = ["source/rapl/energy", "source/sched/cpu", "output/jsonl/jsonl"].map(String::from);
        assert_eq!(nearest("source/rapl/enrgy", &names)[0], "source/rapl/energy");
        assert!(!nearest("source/rapl/enrgy", &names).contains(&names[2]));
        assert_eq!(nearest("output/*", &names), Vec::<String>::new());
    }
}
