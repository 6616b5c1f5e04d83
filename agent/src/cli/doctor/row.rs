//! A row of what concerns the whole machine: a finding, what it costs, and how `--fix` helps.

use serde::Serialize;
use wattrace_api::{Finding, Verdict};

/// A row.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) finding: Finding,
    /// What it costs in accuracy or function; empty if nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) cost: String,
    /// What `--fix` does about it.
    #[serde(skip)]
    pub(super) fix: Option<Fix>,
}

/// A command that changes this machine until the next boot, and nothing that it would not do by itself if its
/// hardware were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fix {
    pub(super) what: String,
    /// The program and its arguments, as root runs it.
    pub(super) command: Vec<String>,
}

impl Row {
    /// Everything is as it should be.
    pub(super) fn ok(what: &str, found: impl Into<String>) -> Self {
        Self::from(Finding {
            what: what.to_owned(),
            verdict: Verdict::Ok,
            found: found.into(),
            remedy: String::new(),
        })
    }

    /// Something is missing without which Wattrace works: at this cost, and with this remedy.
    pub(super) fn without(
        what: &str,
        found: impl Into<String>,
        cost: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (found, remedy) = (found.into(), remedy.into());
        let finding = Finding { what: what.to_owned(), verdict: Verdict::Optional, found, remedy };
        Self { cost: cost.into(), ..Self::from(finding) }
    }

    /// The row with something that `--fix` can do.
    pub(super) fn fixed_by(self, fix: Option<Fix>) -> Self {
        Self { fix, ..self }
    }
}

impl From<Finding> for Row {
    fn from(finding: Finding) -> Self {
        Self { finding, cost: String::new(), fix: None }
    }
}
