//! What the log says about the collector: when it goes, when it comes back, when it refuses; never the same
//! twice in a row.

use tracing::{info, warn};

use crate::config::{Protocol, Settings};
use crate::transport::Outcome;

/// The collector as last seen.
#[derive(Debug)]
pub(crate) struct Link {
    endpoint: String,
    protocol: Protocol,
    state: State,
    /// Why nothing arrives, as of the last answer.
    trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Takes,
    TakesSome,
    Refuses,
    Away,
}

/// Something worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// For the operator to act upon.
    Warn(String),
    /// That all is well.
    Info(String),
}

impl Notice {
    /// Writes it to the log.
    pub(crate) fn log(self) {
        match self {
            Notice::Warn(text) => warn!("{text}"),
            Notice::Info(text) => info!("{text}"),
        }
    }
}

impl Link {
    /// A collector not heard of yet.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            endpoint: settings.endpoint.to_string(),
            protocol: settings.protocol,
            state: State::Unknown,
            trouble: None,
        }
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Why nothing arrives there; `None`: it does, or nothing is known.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What there is to say after `outcome`.
    pub(crate) fn heard(&mut self, outcome: &Outcome) -> Option<Notice> {
        let new = match outcome {
            Outcome::Accepted { rejected: 0, .. } => State::Takes,
            Outcome::Accepted { .. } => State::TakesSome,
            Outcome::Refused { .. } => State::Refuses,
            Outcome::Later { .. } => State::Away,
        };
        self.trouble = match outcome {
            Outcome::Accepted { .. } => None,
            Outcome::Refused { cause } => Some(format!("{} refuses: {cause}", self.endpoint)),
            Outcome::Later { cause, .. } => Some(format!("nothing arrives at {}: {cause}", self.endpoint)),
        };
        let old = std::mem::replace(&mut self.state, new);
        if old == new {
            return None;
        }
        let (endpoint, protocol) = (&self.endpoint, self.protocol.as_str());
        match outcome {
            Outcome::Accepted { rejected: 0, .. } => match old {
                State::Unknown => Some(Notice::Info(format!("metrics go to {endpoint} ({protocol})"))),
                _ => Some(Notice::Info(format!("{endpoint} takes metrics again"))),
            },
            Outcome::Accepted { rejected, message } => Some(Notice::Warn(format!(
                "{endpoint} took a request but rejected {rejected} points: {message}; they are counted as lost"
            ))),
            Outcome::Refused { cause } => Some(Notice::Warn(format!(
                "{endpoint} refuses metrics over {protocol}: {cause}; the points are counted as lost. \
                 Check plugins.otlp.endpoint, protocol and headers"
            ))),
            Outcome::Later { cause, .. } => Some(Notice::Warn(format!(
                "no metrics to {endpoint} over {protocol} for now: {cause}; trying again, counters keep counting. \
                 Is a collector listening there? Else set plugins.otlp.endpoint and protocol"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::OtlpConfig;
    use crate::env::Env;

    #[test]
    fn only_changes_are_said_with_the_place_the_cause_and_the_remedy() {
        let settings = Settings::resolve(OtlpConfig::default(), Env(&|_| None)).unwrap();
        let mut link = Link::new(&settings);
        let away = Outcome::Later { cause: "connection refused".to_owned(), after: None };
        let taken = Outcome::Accepted { rejected: 0, message: String::new() };
        let Some(Notice::Warn(text)) = link.heard(&away) else { panic!() };
        for part in ["http://localhost:4317/", "grpc", "connection refused", "plugins.otlp.endpoint"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(link.heard(&away), None);
        assert!(link.trouble().unwrap().contains("connection refused"));
        assert!(matches!(link.heard(&taken), Some(Notice::Info(text)) if text.contains("again")));
        assert_eq!(link.trouble(), None);
        assert_eq!(link.heard(&taken), None);
        let refused = Outcome::Refused { cause: "Unauthenticated: who?".to_owned() };
        assert!(matches!(link.heard(&refused), Some(Notice::Warn(text)) if text.contains("who?")));
        let some = Outcome::Accepted { rejected: 3, message: "dup".to_owned() };
        assert!(matches!(link.heard(&some), Some(Notice::Warn(text)) if text.contains("3 points: dup")));
    }
}
