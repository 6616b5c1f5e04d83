//! The state of the collector, and its changes for the log: when it becomes unreachable, when it is back,
//! when it refuses; never the same twice in a row.

use tracing::{info, warn};

use crate::config::{Protocol, Settings};
use crate::transport::Outcome;

/// The collector, as of its last answer.
#[derive(Debug)]
pub(crate) struct Collector {
    endpoint: String,
    protocol: Protocol,
    state: State,
    /// Why nothing arrives.
    trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Accepts,
    AcceptsSome,
    Refuses,
    Unreachable,
}

/// Something worth a line in the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The operator should act.
    Warn(String),
    /// All is well.
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

impl Collector {
    /// A collector that has not answered yet.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            endpoint: settings.endpoint.to_string(),
            protocol: settings.protocol,
            state: State::Unknown,
            trouble: None,
        }
    }

    /// Its URL.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Why nothing arrives there; `None`: it does, or nothing is known yet.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Takes the outcome of a request. Returns what to log, if the state has changed.
    pub(crate) fn observe(&mut self, outcome: &Outcome) -> Option<Notice> {
        let new = match outcome {
            Outcome::Accepted { rejected: 0, .. } => State::Accepts,
            Outcome::Accepted { .. } => State::AcceptsSome,
            Outcome::Refused { .. } => State::Refuses,
            Outcome::Later { .. } => State::Unreachable,
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
                _ => Some(Notice::Info(format!("{endpoint} accepts metrics again"))),
            },
            Outcome::Accepted { rejected, message } => Some(Notice::Warn(format!(
                "{endpoint} accepted a request but rejected {rejected} points: {message}; \
                 they are counted as lost"
            ))),
            Outcome::Refused { cause } => Some(Notice::Warn(format!(
                "{endpoint} refuses metrics over {protocol}: {cause}; the points are counted as lost. \
                 Check plugins.otlp.endpoint, protocol and headers"
            ))),
            Outcome::Later { cause, .. } => Some(Notice::Warn(format!(
                "no metrics to {endpoint} over {protocol} for now: {cause}; trying again, counters keep \
                 counting. Is a collector listening there? Else set plugins.otlp.endpoint and protocol"
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
    fn only_changes_are_logged_with_the_place_the_cause_and_the_remedy() {
        let settings = Settings::resolve(OtlpConfig::default(), Env(&|_| None)).unwrap();
        let mut collector = Collector::new(&settings);
        let unreachable = Outcome::Later { cause: "connection refused".to_owned(), after: None };
        let accepted = Outcome::Accepted { rejected: 0, message: String::new() };
        let Some(Notice::Warn(text)) = collector.observe(&unreachable) else { panic!() };
        for part in ["http://localhost:4317/", "grpc", "connection refused", "plugins.otlp.endpoint"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(collector.observe(&unreachable), None);
        assert!(collector.trouble().unwrap().contains("connection refused"));
        assert!(matches!(collector.observe(&accepted), Some(Notice::Info(text)) if text.contains("again")));
        assert_eq!(collector.trouble(), None);
        assert_eq!(collector.observe(&accepted), None);
        let refused = Outcome::Refused { cause: "Unauthenticated: who?".to_owned() };
        assert!(matches!(collector.observe(&refused), Some(Notice::Warn(text)) if text.contains("who?")));
        let some = Outcome::Accepted { rejected: 3, message: "dup".to_owned() };
        assert!(
            matches!(collector.observe(&some), Some(Notice::Warn(text)) if text.contains("3 points: dup"))
        );
    }
}
