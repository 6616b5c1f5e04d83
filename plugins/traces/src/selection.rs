//! Which processes are traced without a command: those that `plugins.traces.select` matches, each with all
//! its descendants, and of these trees a sampled part.

use wattrace_api::{Error, Series};
use wattrace_select::{Pattern, Selector};

use crate::ids::is_sampled;

/// The compiled selection.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    selectors: Vec<Selector>,
    sample: f64,
}

impl Selection {
    /// Compiles the configured patterns.
    ///
    /// # Errors
    /// Fatal, if a pattern is invalid. The message names the key.
    pub(crate) fn compile(patterns: &[Pattern], sample: f64) -> Result<Self, Error> {
        let compile =
            |(at, pattern): (usize, &Pattern)| pattern.compile(&format!("plugins.traces.select.{at}"));
        let selectors = patterns.iter().enumerate().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { selectors, sample })
    }

    /// Whether the process of `series` begins a traced tree, by its attributes now. Its tree has the id
    /// `trace_id`.
    pub(crate) fn begins_tree(&self, series: &Series, trace_id: u128) -> bool {
        !self.is_empty()
            && is_sampled(trace_id, self.sample)
            && self.selectors.iter().any(|selector| selector.matches(series))
    }

    /// The part of the trees that is traced.
    #[cfg(test)]
    pub(crate) fn sample(&self) -> f64 {
        self.sample
    }

    /// Whether nothing is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.selectors.is_empty() || self.sample <= 0.0
    }
}
