//! Finds the series of an input to read for a series of the leading input: the one about the same resource,
//! consumer and domain, or, if there is none, one about all consumers, all domains, or the whole host.

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

/// The series of all inputs except the leading one.
#[derive(Debug)]
pub(crate) struct Inputs {
    tracks: Slab<(Track, Subject)>,
    by_subject: HashMap<Subject, usize>,
    /// Per input: up to when its counters are known.
    known: Vec<Timestamp>,
    /// Number of series that were opened or ended.
    pub(crate) generation: u64,
    /// Tracks of series that have ended, and when.
    ended: VecDeque<(usize, Timestamp)>,
    warned: bool,
}

/// How long an ended series can still be found: a process's last energy arrives after its last CPU time.
const GRACE: Duration = Duration::from_secs(10);

impl Inputs {
    /// No series yet, of `count` inputs.
    pub(crate) fn new(count: usize) -> Self {
        let known = vec![Timestamp(0); count];
        let (tracks, by_subject, ended) = (Slab::new(), HashMap::new(), VecDeque::new());
        Self { tracks, by_subject, known, generation: 0, ended, warned: false }
    }

    /// Opens a track of `series`; `None` if there is one with the same subject already.
    pub(crate) fn open(&mut self, input: usize, name: &str, series: &Series) -> Option<usize> {
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
                     the first is used; select one by attributes",
                    series.metric.name
                );
            }
            return None;
        }
        let track = self.tracks.insert((Track::new(), subject.clone()));
        self.by_subject.insert(subject, track);
        self.generation += 1;
        Some(track)
    }

    /// The track, and the time up to which its input is known.
    pub(crate) fn track(&self, track: usize) -> Option<(&Track, Timestamp)> {
        let (track, subject) = self.tracks.get(track)?;
        Some((track, self.known.get(subject.input).copied().unwrap_or_default()))
    }

    /// The track, to add a point that ends at `until`.
    pub(crate) fn track_mut(&mut self, track: usize, until: Timestamp) -> Option<&mut Track> {
        let (track, subject) = self.tracks.get_mut(track)?;
        if let Some(known) = self.known.get_mut(subject.input) {
            *known = until.max(*known);
        }
        Some(track)
    }

    /// The track's series has ended. The track stays for its readers, and for [`GRACE`].
    pub(crate) fn end(&mut self, at: usize, now: Timestamp) {
        if let Some((track, _)) = self.tracks.get_mut(at) {
            track.ended = true;
            self.ended.push_back((at, now));
            self.generation += 1;
        }
    }

    /// Removes the tracks whose series ended more than [`GRACE`] ago.
    pub(crate) fn remove_ended(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.ended.pop_front_if(|(_, ended)| now.since(*ended) > GRACE) {
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

    /// The track of `input` to read for `lead`. The caller is one of its readers until [`Inputs::unbind`].
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
