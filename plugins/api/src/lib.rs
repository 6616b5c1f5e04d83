//! What a Wattrace plugin is written against, and all of it: read it top to bottom in one sitting.
//!
//! | module | holds |
//! | --- | --- |
//! | [`time`] | monotonic timestamps, the [`Window`] that a value covers, the [`Clock`] |
//! | [`metric`] | what is measured: name, unit, kind |
//! | [`subject`] | what a value is about: [`Resource`], [`Domain`], [`Consumer`], [`Attribute`]s |
//! | [`series`] | metric × subject, interned in the [`Registry`] to a small [`SeriesId`] |
//! | [`batch`] | the columns that flow through the pipeline |
//! | [`element`] | [`Source`], [`Transform`], [`Output`] |
//! | [`plugin`] | [`Plugin`], and the [`Setup`] through which it adds its elements |
//! | [`finding`] | what a plugin can tell `wattrace doctor` |
//! | [`error`] | errors whose consequence (gone, retry, fatal) their author chooses |
//! | [`testing`] | a rig that runs elements without an agent, on a clock the test turns |
//!
//! The runner that drives all this is the `wattrace` crate in `agent/`; nothing here knows it, nor any hardware.

pub mod batch;
pub mod element;
pub mod error;
pub mod finding;
pub mod metric;
pub mod plugin;
pub mod series;
pub mod subject;
pub mod testing;
pub mod time;

pub use batch::{Batch, Segment};
pub use element::{Output, Source, Tick, Transform, Trigger};
pub use error::{Error, ErrorKind, ResultExt};
pub use finding::{Finding, Verdict};
pub use metric::{Kind, Metric, MetricId, Unit, Value};
pub use plugin::{Plugin, Setup};
pub use series::{Registry, Series, SeriesId, SeriesMap, SeriesSpec};
pub use subject::{
    Attribute, AttributeValue, Consumer, ConsumerKind, Domain, Identity, Origin, Resource, ResourceKind,
};
pub use time::{Clock, Timestamp, Window};

/// The plugin author's book: its programs are compiled and run as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/plugin-authors.md")]
mod book {}
