//! What a Wattrace plugin is written against, and all of it: read it top to bottom in one sitting.
//!
//! | module | holds |
//! | --- | --- |
//! | [`time`] | monotonic timestamps, the [`Window`] that a value covers, the [`Clock`] |
//! | [`metric`], [`unit`] | what is measured: name, kind; its unit |
//! | [`subject`] | what a value is about: [`Resource`], [`Domain`], [`Consumer`], [`Attribute`]s |
//! | [`series`], [`registry`] | metric × subject, interned in the [`Registry`] to a small [`SeriesId`] |
//! | [`batch`] | the columns that flow through the pipeline |
//! | [`role`], [`increments`] | what a series stands for; by how much a counter grew |
//! | [`element`] | [`Source`], [`Transform`], [`Output`] |
//! | [`plugin`] | [`Plugin`], and the [`Setup`] through which it declares its elements |
//! | [`spec`] | a declared element |
//! | [`host`], [`chain`] | for programs that run plugins: their start; an output behind transforms of its own |
//! | [`events`] | what plugins tell each other |
//! | [`trace`] | the context of distributed traces, and the events about commands that are traced |
//! | [`directory`] | the living processes by pid |
//! | [`members`] | the processes of a group whose energy is metered apart |
//! | [`process_stats`], [`memory`], [`network`] | what a consumer used besides CPU time and energy |
//! | [`finding`], [`device`] | what a plugin can tell `wattrace doctor`; the device that it needs |
//! | [`files`], [`privilege`] | files that a user names; rights that only the kernel's own files need |
//! | [`state_directory`] | where the agent keeps what must survive it |
//! | [`secret`] | text that is shown nowhere |
//! | [`text`] | text from outside made safe for terminals and spreadsheets |
//! | [`error`] | errors whose consequence (gone, retry, fatal) their author chooses |
//! | [`testing`] | a rig that runs elements without an agent, on a clock the test turns |
//!
//! The runner that drives all this is the `wattrace` crate in `agent/`; nothing here knows it, nor any
//! hardware.

pub mod batch;
pub mod chain;
pub mod device;
pub mod directory;
pub mod element;
pub mod error;
pub mod events;
pub mod files;
pub mod finding;
pub mod host;
pub mod increments;
pub mod members;
pub mod memory;
pub mod metric;
pub mod network;
pub mod plugin;
pub mod privilege;
pub mod process_stats;
pub mod registry;
pub mod role;
pub mod secret;
pub mod series;
pub mod spec;
mod state_directory;
pub mod subject;
pub mod testing;
pub mod text;
pub mod time;
pub mod trace;
pub mod unit;

pub use batch::{Batch, Segment, SegmentMut};
pub use chain::OutputChain;
pub use device::Device;
pub use directory::Directory;
pub use element::{Output, Source, Tick, TickCause, Transform, Trigger};
pub use error::{Error, ErrorKind, ResultExt};
pub use events::{Events, Received, Subscription};
pub use finding::{Finding, Verdict};
pub use host::{Host, PluginElement};
pub use increments::Increments;
pub use members::{Members, ProcessKey};
pub use metric::{Kind, Metric, MetricId, Value};
pub use plugin::{Plugin, Setup};
pub use registry::{MetricError, Registry};
pub use role::{Role, Usage, weighted_cycles};
pub use secret::Secret;
pub use series::{Series, SeriesId, SeriesMap, SeriesSet, SeriesSpec};
pub use spec::{ElementKind, ElementSpec};
pub use state_directory::state_directory;
pub use subject::{
    Attribute, AttributeValue, Consumer, ConsumerKind, Domain, Follows, Identity, Origin, Resource,
    ResourceKind,
};
pub use time::{Clock, StepCause, Timestamp, WallStep, Window};
pub use unit::{Unit, UnitError};

/// The plugin author's book: its programs are compiled and run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/plugin-authors.md")]
mod book {}
