//! Control of a running pipeline: what `wattrace control` does, one method per command. A [`Control`] is
//! cheap to clone, good on any thread and task, and does nothing any more once the pipeline has stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wattrace_api::{ElementKind, Host, PluginElement, Trigger};

use super::commands::Command;
use super::context::Context;
use super::elements::ask_all;
use super::health::Health;
use super::inbox::Message;
use super::membership;
use super::status::ElementStatus;
use crate::pattern::Pattern;

/// Controls a running pipeline. From [`super::Pipeline::control`].
#[derive(Clone)]
pub struct Control(pub(super) Arc<Context>);

/// A command cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No element has such a name.
    #[error("no element matches {pattern}; there are {}", .there.join(", "))]
    NoMatch {
        /// What was looked for.
        pattern: Pattern,
        /// What there is.
        there: Vec<String>,
    },
    /// The elements that match are of kinds for which the command means nothing.
    #[error("{pattern} matches {}, and `{command}` is for {what} only", .matching.join(", "))]
    NotFor {
        /// What was looked for.
        pattern: Pattern,
        /// What was found.
        matching: Vec<String>,
        /// What the command is for.
        what: &'static str,
        /// The command.
        command: &'static str,
    },
    /// A value makes no sense.
    #[error("{0}")]
    Value(String),
}

/// What became of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Elements that have done it.
    pub done: Vec<String>,
    /// Elements that did not answer in time.
    pub late: Vec<String>,
}

impl Control {
    /// Every element that matches, as it stands: sources in the order of their ticks, transforms in theirs,
    /// outputs.
    pub fn status(&self, pattern: &Pattern) -> Vec<ElementStatus> {
        let (entries, clock) = (self.0.elements.entries(), &self.0.clock);
        (entries.sources.iter().map(|s| ElementStatus::of_source(s, clock)))
            .chain(entries.transforms.iter().map(|t| ElementStatus::of(&t.health, clock)))
            .chain(entries.outputs.iter().map(|o| ElementStatus::of_output(o, clock)))
            .filter(|status| pattern.matches(&status.name))
            .collect()
    }

    /// The books of every element there is now.
    pub fn health(&self) -> Vec<Arc<Health>> {
        self.0.elements.health()
    }

    /// Pauses elements: a source is no longer polled (its next window spans the pause), batches bypass a
    /// transform, an output's batches wait in its queue as long as there is room, and nobody waits for that
    /// output.
    ///
    /// # Errors
    /// [`ControlError::NoMatch`].
    pub fn pause(&self, pattern: &Pattern) -> Result<Done, ControlError> {
        self.set_paused(pattern, true)
    }

    /// Lets paused elements go on.
    ///
    /// # Errors
    /// [`ControlError::NoMatch`].
    pub fn resume(&self, pattern: &Pattern) -> Result<Done, ControlError> {
        self.set_paused(pattern, false)
    }

    fn set_paused(&self, pattern: &Pattern, paused: bool) -> Result<Done, ControlError> {
        let done = self.matching(pattern, |_| true, "", "")?;
        let entries = self.0.elements.entries();
        for source in entries.sources.iter().filter(|s| pattern.matches(&s.health.name)) {
            source.health.pause(paused);
            source.commands.send(Command::Pause(paused));
        }
        for transform in entries.transforms.iter().filter(|t| pattern.matches(&t.health.name)) {
            transform.health.pause(paused);
        }
        for output in entries.outputs.iter().filter(|o| pattern.matches(&o.health.name)) {
            output.health.pause(paused);
            output.queue.pause(paused);
        }
        Ok(Done { done, late: Vec::new() })
    }

    /// Polls sources now, paused ones too, one after the other in the order of their ticks, so that usage
    /// covers energy. Waits for them until `deadline`.
    ///
    /// # Errors
    /// [`ControlError::NoMatch`]; [`ControlError::NotFor`] if no source matches.
    pub async fn trigger(&self, pattern: &Pattern, deadline: Instant) -> Result<Done, ControlError> {
        let done = self.matching(pattern, |h| h.kind == ElementKind::Source, "sources", "trigger")?;
        let mut sources = self.0.elements.entries().sources;
        sources.retain(|s| done.contains(&s.health.name));
        let silent = ask_all(&sources, Command::Poll, deadline).await;
        let late: Vec<_> = silent.into_iter().map(|s| s.health.name.clone()).collect();
        Ok(Done { done: done.into_iter().filter(|name| !late.contains(name)).collect(), late })
    }

    /// Makes outputs write what sources have given so far, and flush it. Waits for them until `deadline`.
    ///
    /// # Errors
    /// [`ControlError::NoMatch`]; [`ControlError::NotFor`] if no output matches.
    pub async fn flush(&self, pattern: &Pattern, deadline: Instant) -> Result<Done, ControlError> {
        let names = self.matching(pattern, |h| h.kind == ElementKind::Output, "outputs", "flush")?;
        let now = Instant::now();
        let passed = now + deadline.saturating_duration_since(now) / 2;
        self.0.ask_transforms(Message::Barrier, passed).await;
        let mut result = Done::default();
        let outputs = self.0.elements.entries().outputs;
        let flushes: Vec<_> = (outputs.into_iter().filter(|o| names.contains(&o.health.name)))
            .map(|mut output| {
                let number = output.queue.request_flush();
                async move {
                    let done = output.flushed_by(number, deadline).await;
                    (output.health.name.clone(), done)
                }
            })
            .collect();
        // All have been asked by now; waiting in order costs nothing.
        for flush in flushes {
            let (name, done) = flush.await;
            if done { result.done.push(name) } else { result.late.push(name) }
        }
        Ok(result)
    }

    /// Sets the time between sources' ticks, until set again or the agent ends. Zero: polled when asked only.
    /// Ticks fall on whole multiples of it; a source that ticked so long after them still does.
    ///
    /// # Errors
    /// [`ControlError::NoMatch`]; [`ControlError::NotFor`] if no source matches;
    /// [`ControlError::Value`] if it is shorter than a millisecond or longer than a day.
    pub fn set_interval(&self, pattern: &Pattern, interval: Duration) -> Result<Done, ControlError> {
        let bounds = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
        if !interval.is_zero() && !bounds.contains(&interval) {
            let interval = humantime::format_duration(interval);
            return Err(ControlError::Value(format!(
                "interval {interval}: must be 1ms to 1day, or 0s for none"
            )));
        }
        let done = self.matching(pattern, |h| h.kind == ElementKind::Source, "sources", "set-interval")?;
        for source in self.0.elements.lock().sources.iter_mut().filter(|s| done.contains(&s.health.name)) {
            source.trigger = Trigger::after(interval, source.trigger.offset);
            source.commands.send(Command::SetTrigger(source.trigger));
        }
        Ok(Done { done, late: Vec::new() })
    }

    /// A host for plugins that are to join this pipeline: start them on it, then hand the elements that they
    /// declared to [`Control::replace_plugin`].
    pub fn host(&self) -> Host {
        Host::new(self.0.registry.clone(), self.0.clock.clone(), self.0.runtime.clone())
    }

    /// Removes all elements of the plugin `name` and adds `elements`; either may be none. The removed
    /// elements get their last calls, and their series end, before the new ones open; transforms take the
    /// place of the plugin's earlier ones. All other elements keep running and keep their state. What does
    /// not leave within two seconds is abandoned, and reported.
    pub async fn replace_plugin(&self, name: &str, elements: Vec<PluginElement>) {
        let _changing = self.0.changing.lock().await;
        let leaving = self.0.elements.select(|plugin, _| plugin == name);
        membership::leave(&self.0, leaving).await;
        self.0.output_transforms.remove(name);
        membership::join(&self.0, elements).await;
        for output in self.0.elements.entries().outputs {
            if self.0.settings.transforms_of(&output.health.name).iter().any(|plugin| plugin == name) {
                output.queue.reset();
            }
        }
    }

    /// Names of the elements that match and for which `is` holds.
    fn matching(
        &self,
        pattern: &Pattern,
        is: impl Fn(&Health) -> bool,
        what: &'static str,
        command: &'static str,
    ) -> Result<Vec<String>, ControlError> {
        let all = self.health();
        let matching: Vec<_> = all.iter().filter(|h| pattern.matches(&h.name)).collect();
        if matching.is_empty() {
            let there = all.iter().map(|h| h.name.clone()).collect();
            return Err(ControlError::NoMatch { pattern: pattern.clone(), there });
        }
        let able: Vec<_> = matching.iter().filter(|h| is(h)).map(|h| h.name.clone()).collect();
        if able.is_empty() {
            let matching = matching.iter().map(|h| h.name.clone()).collect();
            return Err(ControlError::NotFor { pattern: pattern.clone(), matching, what, command });
        }
        Ok(able)
    }
}
