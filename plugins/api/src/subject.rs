//! What a value is about: the hardware ([`Resource`]), its energy counter ([`Domain`]) and who used it
//! ([`Consumer`]).

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::members::Members;

/// A kind of hardware.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ResourceKind {
    /// The machine as a whole.
    Host,
    /// A CPU package (socket).
    Package,
    /// CPU cores, as a part of a package.
    Core,
    /// Parts of a package beside its cores.
    Uncore,
    /// Memory.
    Dram,
    /// The platform, as RAPL's psys meters it.
    Psys,
    /// A GPU.
    Gpu,
    /// Anything else, under its own name.
    Other(Cow<'static, str>),
}

impl ResourceKind {
    /// The kind's name: `package`, `dram`, …
    pub fn as_str(&self) -> &str {
        match self {
            ResourceKind::Host => "host",
            ResourceKind::Package => "package",
            ResourceKind::Core => "core",
            ResourceKind::Uncore => "uncore",
            ResourceKind::Dram => "dram",
            ResourceKind::Psys => "psys",
            ResourceKind::Gpu => "gpu",
            ResourceKind::Other(name) => name,
        }
    }

    /// Whether a meter of it counts the whole machine, and so what other meters count as well. A total leaves
    /// it out.
    pub fn is_whole_machine(&self) -> bool {
        matches!(self, ResourceKind::Psys | ResourceKind::Host)
    }

    /// OpenTelemetry's `hw.type` for it.
    pub fn hw_type(&self) -> &str {
        match self {
            ResourceKind::Package | ResourceKind::Core | ResourceKind::Uncore => "cpu",
            ResourceKind::Dram => "memory",
            other => other.as_str(),
        }
    }
}

/// One piece of hardware: its kind, and which one of that kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// What it is.
    pub kind: ResourceKind,
    /// Which one: the package's number, a GPU's UUID; empty for the host.
    pub id: Cow<'static, str>,
}

impl Resource {
    /// The whole machine.
    pub const HOST: Resource = Resource { kind: ResourceKind::Host, id: Cow::Borrowed("") };

    /// CPU package number `n`.
    pub fn package(n: u32) -> Self {
        Self { kind: ResourceKind::Package, id: n.to_string().into() }
    }

    /// The core whose lowest CPU is `cpu`. (RAPL's domain of all cores of a package is a core as well; its id
    /// is the package's number alone.)
    pub fn core(cpu: u32) -> Self {
        Self { kind: ResourceKind::Core, id: format!("cpu-{cpu}").into() }
    }

    /// A GPU, by its UUID or its address on the bus.
    pub fn gpu(id: String) -> Self {
        Self { kind: ResourceKind::Gpu, id: id.into() }
    }
}

/// Where a joule's number comes from. Shown wherever the joule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// By a meter in the hardware.
    Measured,
    /// By a power model.
    Estimated,
    /// By a stand-in for a meter.
    Simulated,
}

impl Origin {
    /// `measured`, `estimated` or `simulated`.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Measured => "measured",
            Origin::Estimated => "estimated",
            Origin::Simulated => "simulated",
        }
    }
}

/// The hardware whose use a domain's energy follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Follows {
    /// All CPUs of the machine.
    Cpus,
    /// The CPUs of one package.
    Package(u32),
    /// The CPUs of one core, named by the lowest of their numbers.
    Core(u32),
    /// A device, by the resource of the series that report its use.
    Device(Resource),
    /// The CPUs of one package, as far as these processes use them: the energy is theirs alone.
    Members(u32, Members),
}

impl Follows {
    /// The package, if it is known; else all CPUs.
    pub fn package_or_all(package: Option<u32>) -> Self {
        package.map_or(Follows::Cpus, Follows::Package)
    }
}

/// One energy counter of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Domain {
    /// `package-0`, `dram-1`, `psys`, `gpu-<uuid>`; unique in an agent.
    pub name: String,
    /// Where its numbers come from.
    pub origin: Origin,
    /// The hardware whose use decides whose this energy is.
    pub follows: Follows,
    /// The domain that already contains this one's energy, as `package-0` does that of `core-0`. A total over
    /// domains leaves out those with a container, and those whose resource is the whole machine (psys, host).
    pub within: Option<String>,
    /// Power drawn at no load, in microwatts, where the origin knows it: a model does, a meter does not.
    pub idle_microwatts: Option<u64>,
}

/// Who used the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConsumerKind {
    /// All threads of one (pid, start time).
    Process,
    /// One thread.
    Thread,
    /// A control group.
    Cgroup,
    /// A container.
    Container,
    /// A Kubernetes pod.
    Pod,
    /// A systemd unit.
    Unit,
    /// A batch job.
    Job,
    /// A virtual machine.
    Machine,
    /// The user whose processes they are.
    User,
    /// A process and all its descendants.
    Tree,
    /// Closing entry: nobody, the hardware was idle.
    Idle,
    /// Closing entry: interrupts.
    Irq,
    /// Closing entry: everyone below the top N.
    Other,
    /// Closing entry: somebody, but it is not known who.
    Unattributed,
}

impl ConsumerKind {
    /// All of them.
    pub const ALL: [ConsumerKind; 14] = [
        ConsumerKind::Process,
        ConsumerKind::Thread,
        ConsumerKind::Cgroup,
        ConsumerKind::Container,
        ConsumerKind::Pod,
        ConsumerKind::Unit,
        ConsumerKind::Job,
        ConsumerKind::Machine,
        ConsumerKind::User,
        ConsumerKind::Tree,
        ConsumerKind::Idle,
        ConsumerKind::Irq,
        ConsumerKind::Other,
        ConsumerKind::Unattributed,
    ];

    /// The kind's name: `process`, `idle`, …
    pub fn as_str(self) -> &'static str {
        match self {
            ConsumerKind::Process => "process",
            ConsumerKind::Thread => "thread",
            ConsumerKind::Cgroup => "cgroup",
            ConsumerKind::Container => "container",
            ConsumerKind::Pod => "pod",
            ConsumerKind::Unit => "unit",
            ConsumerKind::Job => "job",
            ConsumerKind::Machine => "machine",
            ConsumerKind::User => "user",
            ConsumerKind::Tree => "tree",
            ConsumerKind::Idle => "idle",
            ConsumerKind::Irq => "irq",
            ConsumerKind::Other => "other",
            ConsumerKind::Unattributed => "unattributed",
        }
    }
}

/// What never changes about a consumer: two are the same one exactly if these are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// What it is.
    pub kind: ConsumerKind,
    /// Which one: a process's pid; empty for closing entries.
    pub id: Cow<'static, str>,
    /// When it began, in nanoseconds since the Unix epoch; 0 for closing entries. Tells a reused pid from its
    /// first owner.
    pub start_unix_nano: u64,
}

/// A user of hardware. Shared by all its series; gone when the last of them has ended.
#[derive(Debug)]
pub struct Consumer {
    identity: Identity,
    parent: Option<Identity>,
    facts: RwLock<Facts>,
    revision: AtomicU64,
}

#[derive(Debug, Default)]
struct Facts {
    attributes: Arc<[Attribute]>,
    end_unix_nano: Option<u64>,
}

impl Consumer {
    /// A consumer with a lifetime.
    pub fn new(identity: Identity, parent: Option<Identity>, attributes: Vec<Attribute>) -> Self {
        let facts = RwLock::new(Facts { attributes: attributes.into(), end_unix_nano: None });
        Self { identity, parent, facts, revision: AtomicU64::new(0) }
    }

    /// A closing entry, such as `idle`.
    pub fn closing(kind: ConsumerKind) -> Self {
        Self::new(Identity { kind, id: Cow::Borrowed(""), start_unix_nano: 0 }, None, Vec::new())
    }

    /// Its identity, which never changes.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Short for `identity().kind`.
    pub fn kind(&self) -> ConsumerKind {
        self.identity.kind
    }

    /// Who began it, by fork; that consumer may be long gone.
    pub fn parent(&self) -> Option<&Identity> {
        self.parent.as_ref()
    }

    /// What is known about it now, under OpenTelemetry's names (`process.pid`, …). An exec changes it.
    pub fn attributes(&self) -> Arc<[Attribute]> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).attributes.clone()
    }

    /// Counts the changes of [`Consumer::attributes`].
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The attribute named `key`.
    pub fn attribute(&self, key: &str) -> Option<AttributeValue> {
        let facts = self.facts.read().unwrap_or_else(PoisonError::into_inner);
        facts.attributes.iter().find(|a| a.key == key).map(|a| a.value.clone())
    }

    /// Sets the attributes that `changes` names and keeps the others.
    pub fn update(&self, changes: Vec<Attribute>) {
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = facts.attributes.to_vec();
        for change in changes {
            match all.iter_mut().find(|a| a.key == change.key) {
                Some(old) => *old = change,
                None => all.push(change),
            }
        }
        facts.attributes = all.into();
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// When it ended, in nanoseconds since the Unix epoch; `None` while it lives.
    pub fn end_unix_nano(&self) -> Option<u64> {
        self.facts.read().unwrap_or_else(PoisonError::into_inner).end_unix_nano
    }

    /// Sets when it ended; only the first call counts.
    pub fn ended_at(&self, unix_nano: u64) {
        let mut facts = self.facts.write().unwrap_or_else(PoisonError::into_inner);
        facts.end_unix_nano.get_or_insert(unix_nano);
    }
}

/// A named fact about a resource, a consumer or a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// OpenTelemetry's name for it where there is one.
    pub key: Cow<'static, str>,
    /// The fact.
    pub value: AttributeValue,
}

impl Attribute {
    /// An attribute.
    pub fn new(key: impl Into<Cow<'static, str>>, value: impl Into<AttributeValue>) -> Self {
        Self { key: key.into(), value: value.into() }
    }
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// Text.
    Str(Arc<str>),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl From<&str> for AttributeValue {
    fn from(v: &str) -> Self {
        AttributeValue::Str(v.into())
    }
}
impl From<String> for AttributeValue {
    fn from(v: String) -> Self {
        AttributeValue::Str(v.into())
    }
}
impl From<i64> for AttributeValue {
    fn from(v: i64) -> Self {
        AttributeValue::Int(v)
    }
}
impl From<u32> for AttributeValue {
    fn from(v: u32) -> Self {
        AttributeValue::Int(v.into())
    }
}
impl From<f64> for AttributeValue {
    fn from(v: f64) -> Self {
        AttributeValue::Float(v)
    }
}
impl From<bool> for AttributeValue {
    fn from(v: bool) -> Self {
        AttributeValue::Bool(v)
    }
}

impl std::fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AttributeValue::Str(v) => f.write_str(v),
            AttributeValue::Int(v) => v.fmt(f),
            AttributeValue::Float(v) => v.fmt(f),
            AttributeValue::Bool(v) => v.fmt(f),
        }
    }
}
