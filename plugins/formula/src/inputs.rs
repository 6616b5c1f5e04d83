//! Which series of an input goes with which of the leading one: the one about the same resource, consumer and
//! domain; or, if there is none, one about all consumers, all domains, or the whole host.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use slab::Slab;
use tracing::warn;
use wattrace_api::{Identity, Resource, Series, Timestamp};

use crate::track::Track;

/// What a series is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    input: usize,
    resource: Resource,
    consumer: Option<Identity>,
    domain: Option<String>,
}

/// All series of all inputs but the leading one.
#[derive(Debug)]
pub(crate) struct Inputs {
    tracks: Slab<(Track, Subject)>,
    by_subject: HashMap<Subject, usize>,
    /// By input: up to when its counters are known.
    known: Vec<Timestamp>,
    /// Counts the series that were opened and ended.
    pub(crate) generation: u64,
    /// Tracks of series that have ended, and when.
    leaving: VecDeque<(usize, Timestamp)>,
    warned: bool,
}

/// How long a series that has ended can be found: a process's last joules come after its last nanosecond.
const GRACE: Duration = Duration::from_secs(10);

impl Inputs {
    /// `count` inputs, without a series.
    pub(crate) fn new(count: usize) -> Self {
        let known = vec![Timestamp(0); count];
        let (tracks, by_subject, leaving) = (Slab::new(), HashMap::new(), VecDeque::new());
        Self { tracks, by_subject, known, generation: 0, leaving, warned: false }
    }

    /// Opens a track of `series`, which stood at `steps` so far; `None` if there is one about the same
    /// already.
    pub(crate) fn open(&mut self, input: usize, name: &str, series: &Series, steps: u64) -> Option<usize> {
        let subject = Subject {
            input,
            resource: series.resource.clone(),
            consumer: series.consumer.as_ref().map(|consumer| consumer.identity().clone()),
            domain: series.domain.as_ref().map(|domain| domain.name.clone()),
        };
        let old = self.by_subject.get(&subject).and_then(|&old| self.tracks.get_mut(old));
        if old.is_some_and(|(old, _)| !old.ended) {
            if !std::mem::replace(&mut self.warned, true) {
                warn!(
                    "plugins.formula: input {name}: several series of {} are about {subject:?}; \
                       the first is used; narrow it by attributes",
                    series.metric.name
                );
            }
            return None;
        }
        let track = self.tracks.insert((Track::new(steps), subject.clone()));
        self.by_subject.insert(subject, track);
        self.generation += 1;
        Some(track)
    }

    /// The track, and up to when its input is known.
    pub(crate) fn track(&self, track: usize) -> Option<(&Track, Timestamp)> {
        let (track, subject) = self.tracks.get(track)?;
        Some((track, self.known.get(subject.input).copied().unwrap_or_default()))
    }

    /// The track, to take a point that ends at `until`.
    pub(crate) fn taking(&mut self, track: usize, until: Timestamp) -> Option<&mut Track> {
        let (track, subject) = self.tracks.get_mut(track)?;
        if let Some(known) = self.known.get_mut(subject.input) {
            *known = until.max(*known);
        }
        Some(track)
    }

    /// The series behind the track has ended; the track stays for those who read it, and for a while.
    pub(crate) fn end(&mut self, at: usize, now: Timestamp) {
        if let Some((track, _)) = self.tracks.get_mut(at) {
            track.ended = true;
            self.leaving.push_back((at, now));
            self.generation += 1;
        }
    }

    /// Forgets tracks that ended long ago.
    pub(crate) fn clear_out(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.leaving.pop_front_if(|(_, ended)| now.since(*ended) > GRACE) {
            let Some((track, subject)) = self.tracks.get_mut(at) else { continue };
            track.listed = false;
            if self.by_subject.get(subject) == Some(&at) {
                self.by_subject.remove(subject);
            }
            if track.readers == 0 {
                self.tracks.remove(at);
            }
        }
    }

    /// The track of `input` that goes with `lead`; the caller reads it from now on.
    pub(crate) fn bind(&mut self, input: usize, lead: &Series) -> Option<usize> {
        let identity = lead.consumer.as_ref().map(|consumer| consumer.identity());
        let domain = lead.domain.as_ref().map(|domain| &domain.name);
        for resource in [&lead.resource, &Resource::HOST] {
            for consumer in [identity, None] {
                for domain in [domain, None] {
                    let (resource, consumer, domain) = (resource.clone(), consumer.cloned(), domain.cloned());
                    let found = self.by_subject.get(&Subject { input, resource, consumer, domain });
                    if let Some(&track) = found {
                        self.tracks[track].0.readers += 1;
                        return Some(track);
                    }
                }
            }
        }
        None
    }

    /// The caller no longer reads the track.
    pub(crate) fn unbind(&mut self, at: usize) {
        let Some((track, _)) = self.tracks.get_mut(at) else { return };
        track.readers -= 1;
        if track.readers == 0 && !track.listed {
            self.tracks.remove(at);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.tracks.len()
    }
}
