//! A consumer: its parts of the domains' energy, and its use of CPUs and GPUs.

use std::collections::BTreeMap;

use crate::history::History;
use crate::kind::Kind;
use crate::message::ConsumerDescription;

/// Identifies a consumer for as long as the model knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub(crate) index: u32,
    pub(crate) serial: u32,
}

/// A consumer's part of the energy of one domain.
#[derive(Clone, Debug)]
pub struct Part {
    /// Index of the domain.
    pub(super) domain: u16,
    /// Since the consumer began, as far as the agent saw it.
    pub(super) microjoules: u64,
    /// How much of that its program and its tree have been given.
    pub(super) grouped: u64,
    /// Of the windows of this frame.
    pub(super) pending: u64,
    /// The last frame in which there was something, and the power in it.
    pub(super) frame: u32,
    pub(super) watts: f32,
    /// Half the width of the 95 % interval of its energy, J; 0: not known.
    pub(super) half_width: f32,
    /// Begin and last value of its counter.
    pub(super) start: u64,
    pub(super) last: Option<u64>,
}

impl Part {
    pub(super) fn of(domain: u16) -> Self {
        let (microjoules, grouped, pending, frame) = (0, 0, 0, 0);
        let (watts, half_width, start, last) = (0.0, 0.0, 0, None);
        Self { domain, microjoules, grouped, pending, frame, watts, half_width, start, last }
    }

    /// Index of its domain in [`crate::Model::domains`].
    pub fn domain(&self) -> usize {
        usize::from(self.domain)
    }

    /// Energy since the consumer began, as far as the agent saw it, in microjoules.
    pub fn microjoules(&self) -> u64 {
        self.microjoules
    }

    /// Half the width of the 95 % interval of that, J, where attribution gives one.
    pub fn half_width(&self) -> Option<f64> {
        (self.half_width > 0.0).then(|| f64::from(self.half_width))
    }
}

/// A consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) start_unix_nano: u64,
    pub(super) name: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) serial: u32,
    /// By which series refer to it.
    pub(super) number: u64,
    pub(super) parts: Vec<Part>,
    /// Time on CPUs, as far as the agent saw it, ns.
    pub(super) cpu_nanos: u64,
    pub(super) cpu_grouped: u64,
    pub(super) cpu_pending: u64,
    pub(super) gpu_pending: u64,
    /// The last frame in which it used something, and how much.
    pub(super) frame: u32,
    pub(super) cpus: f32,
    pub(super) gpus: f32,
    /// Memory that it holds on GPUs, bytes.
    pub(super) gpu_memory: f64,
    pub(super) history: History,
    /// Whether it is in the list of those that used something in this frame.
    pub(super) is_active: bool,
    /// Whether any of its points was seen: those of what sleeps were before the viewer joined.
    pub(super) is_seen: bool,
    /// How many of its series are open; for a program or a tree: how many of its processes live.
    pub(super) series: u32,
    pub(super) has_ended: bool,
    /// Whether the model adds it up from processes, and no series are its own.
    pub(super) is_derived: bool,
    /// Of a process: its program and its tree.
    pub(super) program: Option<usize>,
    pub(super) tree: Option<usize>,
}

impl Consumer {
    pub(super) fn new(description: &ConsumerDescription, serial: u32) -> Self {
        Self {
            kind: description.kind,
            id: description.id.clone(),
            start_unix_nano: description.start_unix_nano,
            name: description.name.clone(),
            attributes: description.attributes.clone(),
            serial,
            number: description.number,
            ..Self::placeholder()
        }
    }

    pub(super) fn placeholder() -> Self {
        Self {
            kind: Kind::Other,
            id: String::new(),
            start_unix_nano: 0,
            name: String::new(),
            attributes: BTreeMap::new(),
            serial: 0,
            number: 0,
            parts: Vec::new(),
            cpu_nanos: 0,
            cpu_grouped: 0,
            cpu_pending: 0,
            gpu_pending: 0,
            frame: 0,
            cpus: 0.0,
            gpus: 0.0,
            gpu_memory: 0.0,
            history: History::default(),
            is_active: false,
            is_seen: false,
            series: 0,
            has_ended: false,
            is_derived: false,
            program: None,
            tree: None,
        }
    }

    pub(super) fn key(&self, index: usize) -> Key {
        Key { index: u32::try_from(index).unwrap_or(u32::MAX), serial: self.serial }
    }

    /// Its part of a domain's energy.
    pub(super) fn part(&mut self, domain: u16) -> usize {
        self.parts.iter().position(|part| part.domain == domain).unwrap_or_else(|| {
            self.parts.push(Part::of(domain));
            self.parts.len() - 1
        })
    }

    /// Notes that it has used something in this frame. `index` is its own.
    pub(super) fn activate(&mut self, index: usize, active: &mut Vec<u32>) {
        self.is_seen = true;
        if !std::mem::replace(&mut self.is_active, true) {
            active.push(index as u32);
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Which one: a process's pid.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// When it began, in nanoseconds since the Unix epoch; 0 if that makes no sense.
    pub fn start_unix_nano(&self) -> u64 {
        self.start_unix_nano
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is known about it, under OpenTelemetry's names.
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.attributes
    }

    /// Its parts of the domains' energy.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Time on CPUs, as far as the agent saw it, ns.
    pub fn cpu_nanos(&self) -> u64 {
        self.cpu_nanos
    }

    /// Memory that it holds on GPUs, bytes.
    pub fn gpu_memory(&self) -> f64 {
        self.gpu_memory
    }

    /// Its power over the last frames.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Whether it has ended; it is shown until the next frame.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether anything is known of what it used. What sleeps since before the viewer joined is known by name
    /// alone.
    pub fn is_seen(&self) -> bool {
        self.is_seen
    }

    /// Of a program or a tree: how many of its processes live.
    pub fn processes(&self) -> u32 {
        self.series
    }

    /// Of a process: where its program and its tree are.
    pub(crate) fn groups(&self) -> [Option<usize>; 2] {
        [self.program, self.tree]
    }

    /// Whether the model adds it up from processes, and no series are its own.
    pub(crate) fn is_derived(&self) -> bool {
        self.is_derived
    }

    /// Whether it stands for all that is in no group of its kind.
    pub(crate) fn is_rest(&self) -> bool {
        self.id.is_empty() && !self.kind.is_closing()
    }
}
