//! The state of the collector, and its changes for the log: when it becomes unreachable, when it is back,
//! when it refuses; never the same twice in a row.

use std::time::Duration;

use tracing::{info, warn};
use wattrace_otlp_client::endpoint::shown;
use wattrace_otlp_client::protocol::Protocol;
use wattrace_otlp_client::{Outcome, Problem};

use crate::backoff::LONGEST;
use crate::config::Settings;

/// The collector, as of its last answer.
#[derive(Debug)]
pub(crate) struct Collector {
    endpoint: String,
    protocol: Protocol,
    /// The proxy before it.
    proxy: Option<String>,
    state: State,
    /// Why nothing arrives.
    trouble: Option<String>,
    /// What is reported once: a wait that is cut, until something is accepted; a request that is split; a
    /// point that is too large; values from the spool that are refused.
    wait_reported: bool,
    split_reported: bool,
    too_large_reported: bool,
    replay_reported: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Accepts,
    AcceptsSome,
    Refuses,
    Unreachable,
    Untrusted,
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
            endpoint: shown(&settings.client.endpoint),
            protocol: settings.client.protocol,
            proxy: settings.client.proxy.address(&settings.client.endpoint),
            state: State::Unknown,
            trouble: None,
            wait_reported: false,
            split_reported: false,
            too_large_reported: false,
            replay_reported: false,
        }
    }

    /// Its URL, without what may be secret.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Why nothing arrives there; `None`: it does, or nothing is known yet.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Takes the outcome of a request with `values` points. Returns what to log, if the state has changed.
    pub(crate) fn observe(&mut self, outcome: &Outcome, values: u64) -> Option<Notice> {
        let new = match outcome {
            Outcome::Accepted { rejected: 0, .. } => State::Accepts,
            Outcome::Accepted { .. } => State::AcceptsSome,
            Outcome::TooLarge { cause, .. } => return self.point_too_large(cause),
            Outcome::Refused { .. } => State::Refuses,
            Outcome::Unreached { problem: Problem::Tls, .. } => State::Untrusted,
            Outcome::Later { .. } | Outcome::Unreached { .. } => State::Unreachable,
        };
        self.trouble = match outcome {
            Outcome::Accepted { rejected, message } if *rejected >= values.max(1) => {
                Some(format!("{} rejects all points: {message}", self.endpoint))
            }
            Outcome::Accepted { .. } | Outcome::TooLarge { .. } => None,
            Outcome::Refused { cause } => Some(format!("{} refuses: {cause}", self.endpoint)),
            Outcome::Later { cause, .. } | Outcome::Unreached { cause, .. } => {
                Some(format!("nothing arrives at {}: {cause}", self.endpoint))
            }
        };
        self.wait_reported &= self.trouble.is_some();
        let old = std::mem::replace(&mut self.state, new);
        if old == new {
            return None;
        }
        let (endpoint, protocol) = (&self.endpoint, self.protocol.as_str());
        Some(match outcome {
            Outcome::Accepted { rejected: 0, .. } => Notice::Info(match (old, &self.proxy) {
                (State::Unknown, None) => format!("metrics go to {endpoint} ({protocol})"),
                (State::Unknown, Some(proxy)) => {
                    format!("metrics go to {endpoint} ({protocol}), through the proxy {proxy}")
                }
                _ => format!("{endpoint} accepts metrics again"),
            }),
            Outcome::Accepted { message, .. } => Notice::Warn(format!(
                "{endpoint} accepted a request but rejected points of it: {message}; they are counted as lost"
            )),
            Outcome::Refused { cause } => Notice::Warn(format!(
                "{endpoint} refuses metrics over {protocol}: {cause}; the points are counted as lost. \
                 Check plugins.otlp.endpoint, protocol and headers"
            )),
            Outcome::Later { cause, .. } | Outcome::Unreached { cause, .. } => Notice::Warn(format!(
                "no metrics to {endpoint} over {protocol} for now: {cause}; trying again, counters keep \
                 counting{}",
                remedy(outcome)
            )),
            Outcome::TooLarge { .. } => return None,
        })
    }

    /// Takes the outcome of a request from the spool. That it is to be sent again is the live values'
    /// business.
    pub(crate) fn observe_replayed(&mut self, outcome: &Outcome, values: u64) -> Option<Notice> {
        let endpoint = &self.endpoint;
        let (count, cause) = match outcome {
            Outcome::TooLarge { cause, .. } => return self.point_too_large(cause),
            Outcome::Refused { cause } => (values, cause),
            Outcome::Accepted { rejected: 1.., message } => (values, message),
            _ => return None,
        };
        (!std::mem::replace(&mut self.replay_reported, true)).then(|| {
            Notice::Warn(format!(
                "{endpoint} does not take {count} values that waited in the spool, or some of them: {cause}; \
                 such values are counted as lost"
            ))
        })
    }

    fn point_too_large(&mut self, cause: &str) -> Option<Notice> {
        let endpoint = &self.endpoint;
        (!std::mem::replace(&mut self.too_large_reported, true)).then(|| {
            Notice::Warn(format!(
                "{endpoint} does not even take a request with one point: {cause}; such points are counted as \
                 lost (too_large). Raise its limit, or shorten long attributes with the plugin relabel"
            ))
        })
    }

    /// A request of `bytes` was refused as too large and split. Returns what to log.
    pub(crate) fn split(&mut self, bytes: usize, cause: &str) -> Option<Notice> {
        let endpoint = &self.endpoint;
        (!std::mem::replace(&mut self.split_reported, true)).then(|| {
            Notice::Info(format!(
                "{endpoint} takes no request of {bytes} bytes ({cause}): smaller ones are sent"
            ))
        })
    }

    /// It asks for no request until `after` has passed. Returns what to log if that is too long.
    pub(crate) fn asked_to_wait(&mut self, after: Duration) -> Option<Notice> {
        let endpoint = &self.endpoint;
        (after > LONGEST && !std::mem::replace(&mut self.wait_reported, true)).then(|| {
            let asked = after.as_secs();
            Notice::Warn(format!(
                "{endpoint} asks for a wait of {asked} s; it is tried again after {} s",
                LONGEST.as_secs()
            ))
        })
    }
}

/// What the operator can do.
fn remedy(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Unreached { problem: Problem::Tls, .. } => {
            ". To trust the certificate, name it, or that of its authority, as a PEM file in \
             plugins.otlp.certificate or OTEL_EXPORTER_OTLP_CERTIFICATE"
        }
        Outcome::Unreached { problem: Problem::Connection | Problem::Exchange, .. } => {
            ". Is a collector listening there? Else set plugins.otlp.endpoint and protocol"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use wattrace_otlp_client::Env;

    use super::*;
    use crate::config::OtlpConfig;
    use crate::signal::METRICS;

    #[test]
    fn only_changes_are_logged_with_the_place_the_cause_and_the_remedy() {
        let settings = Settings::resolve(OtlpConfig::default(), &Env::new(METRICS, &|_| None)).unwrap();
        let mut collector = Collector::new(&settings);
        let unreachable =
            Outcome::Unreached { cause: "connection refused".to_owned(), problem: Problem::Connection };
        let accepted = Outcome::Accepted { rejected: 0, message: String::new() };
        let Some(Notice::Warn(text)) = collector.observe(&unreachable, 9) else { panic!() };
        for part in ["http://localhost:4317/", "grpc", "connection refused", "plugins.otlp.endpoint"] {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(collector.observe(&unreachable, 9), None);
        assert!(collector.trouble().unwrap().contains("connection refused"));
        let doubted = Outcome::Unreached { cause: "self-signed".to_owned(), problem: Problem::Tls };
        let Some(Notice::Warn(text)) = collector.observe(&doubted, 9) else { panic!() };
        assert!(text.contains("OTEL_EXPORTER_OTLP_CERTIFICATE") && !text.contains("listening"), "{text}");
        assert!(
            matches!(collector.observe(&accepted, 9), Some(Notice::Info(text)) if text.contains("again"))
        );
        assert_eq!(collector.trouble(), None);
        assert_eq!(collector.observe(&accepted, 9), None);
        let refused = Outcome::Refused { cause: "Unauthenticated: who?".to_owned() };
        assert!(matches!(collector.observe(&refused, 9), Some(Notice::Warn(text)) if text.contains("who?")));
        let some = Outcome::Accepted { rejected: 3, message: "dup".to_owned() };
        let Some(Notice::Warn(text)) = collector.observe(&some, 9) else { panic!() };
        assert!(text.contains("points of it: dup"), "{text}");
        assert_eq!(collector.trouble(), None, "the other points arrive");
        collector.observe(&some, 3);
        assert!(collector.trouble().unwrap().contains("rejects all points: dup"));
        let busy = Outcome::Later { cause: "HTTP status 503".to_owned(), after: None };
        assert!(
            matches!(collector.observe(&busy, 9), Some(Notice::Warn(text)) if !text.contains("listening"))
        );
    }

    #[test]
    fn a_long_wait_a_split_and_a_point_that_is_too_large_are_reported_once() {
        let settings = Settings::resolve(OtlpConfig::default(), &Env::new(METRICS, &|_| None)).unwrap();
        let mut collector = Collector::new(&settings);
        let hour = Duration::from_secs(3600);
        let busy = Outcome::Later { cause: "HTTP status 429".to_owned(), after: Some(hour) };
        let accepted = Outcome::Accepted { rejected: 0, message: String::new() };
        for _ in 0..2 {
            collector.observe(&busy, 9);
            assert_eq!(collector.asked_to_wait(LONGEST), None);
            let Some(Notice::Warn(text)) = collector.asked_to_wait(hour) else { panic!() };
            assert!(text.contains("3600 s") && text.contains("after 60 s"), "{text}");
            collector.observe(&busy, 9);
            assert_eq!(collector.asked_to_wait(hour), None);
            collector.observe(&accepted, 9);
        }
        assert!(matches!(collector.split(9, "413"), Some(Notice::Info(text)) if text.contains("9 bytes")));
        assert_eq!(collector.split(9, "413"), None);
        let large = Outcome::TooLarge { cause: "413".to_owned(), is_temporary: false };
        assert!(
            matches!(collector.observe(&large, 9), Some(Notice::Warn(text)) if text.contains("too_large"))
        );
        assert_eq!((collector.observe(&large, 9), collector.observe(&accepted, 9)), (None, None));
    }
}
