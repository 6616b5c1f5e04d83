//! An element on its way into the pipeline: its name, its trigger, and the function that opens it.

use crate::element::{Output, Source, Transform, Trigger};
use crate::error::Error;

/// One of the three kinds of element: the first part of `kind/plugin/element`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElementKind {
    /// Measures.
    Source,
    /// Computes.
    Transform,
    /// Writes.
    Output,
}

impl ElementKind {
    /// `source`, `transform` or `output`.
    pub fn as_str(self) -> &'static str {
        match self {
            ElementKind::Source => "source",
            ElementKind::Transform => "transform",
            ElementKind::Output => "output",
        }
    }
}

/// Opens an element, and reopens it after it failed.
pub type Open<E> = Box<dyn FnMut() -> Result<Box<E>, Error> + Send>;

/// What a plugin declares about one element. [`crate::Setup`] makes these.
pub enum ElementSpec {
    /// A source.
    Source {
        /// Last part of `source/plugin/name`.
        name: String,
        /// When to poll it.
        trigger: Trigger,
        /// Opens it.
        open: Open<dyn Source>,
    },
    /// A transform.
    Transform {
        /// Last part of `transform/plugin/name`.
        name: String,
        /// Opens it.
        open: Open<dyn Transform>,
    },
    /// An output.
    Output {
        /// Last part of `output/plugin/name`.
        name: String,
        /// Open the transforms of its own, in order ([`crate::chain`]).
        transforms: Vec<Open<dyn Transform>>,
        /// Opens it.
        open: Open<dyn Output>,
    },
}

impl ElementSpec {
    pub(crate) fn source<S: Source + 'static>(
        name: impl Into<String>,
        trigger: Trigger,
        mut open: impl FnMut() -> Result<S, Error> + Send + 'static,
    ) -> Self {
        ElementSpec::Source { name: name.into(), trigger, open: Box::new(move || Ok(Box::new(open()?))) }
    }

    pub(crate) fn transform<T: Transform + 'static>(
        name: impl Into<String>,
        mut open: impl FnMut() -> Result<T, Error> + Send + 'static,
    ) -> Self {
        ElementSpec::Transform { name: name.into(), open: Box::new(move || Ok(Box::new(open()?))) }
    }

    pub(crate) fn output<O: Output + 'static>(
        name: impl Into<String>,
        transforms: Vec<Open<dyn Transform>>,
        mut open: impl FnMut() -> Result<O, Error> + Send + 'static,
    ) -> Self {
        ElementSpec::Output { name: name.into(), transforms, open: Box::new(move || Ok(Box::new(open()?))) }
    }

    /// Its kind.
    pub fn kind(&self) -> ElementKind {
        match self {
            ElementSpec::Source { .. } => ElementKind::Source,
            ElementSpec::Transform { .. } => ElementKind::Transform,
            ElementSpec::Output { .. } => ElementKind::Output,
        }
    }

    /// Last part of `kind/plugin/name`.
    pub fn name(&self) -> &str {
        match self {
            ElementSpec::Source { name, .. }
            | ElementSpec::Transform { name, .. }
            | ElementSpec::Output { name, .. } => name,
        }
    }
}
