//! What goes over the control socket: a line of JSON with a [`Command`], answered by a line of JSON with a
//! [`Reply`]. Programs other than ours are written against it: what it says now it goes on saying, and a
//! change that breaks them is `/2`.

use std::fmt::Display;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::element::Element;
use super::reload::Reloaded;
use crate::pipeline::pattern::Pattern;

/// Stands in every request and every reply.
pub(crate) const SCHEMA: &str = "wattrace.control/1";

/// The longest request, in bytes. The longest sensible one is a tenth of it.
pub(crate) const LONGEST_REQUEST: usize = 16 * 1024;

/// What an agent can be told to do. `ELEMENT` is a pattern of names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Command {
    /// How elements are doing.
    Status {
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// Which elements there are.
    List {
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// Elements pause.
    Pause { element: Pattern },
    /// Elements that pause go on.
    Resume {
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// Sources are polled now.
    Trigger {
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// Outputs write what waits, and flush it.
    Flush {
        #[serde(default = "Pattern::all")]
        element: Pattern,
    },
    /// Sources tick at another interval; at that of the configuration if none is given.
    SetInterval {
        element: Pattern,
        #[serde(default, with = "humantime_serde", skip_serializing_if = "Option::is_none")]
        interval: Option<Duration>,
    },
    /// The configuration is read anew.
    Reload {},
}

impl Command {
    /// Its name on the command line, in requests and in replies.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Status { .. } => "status",
            Command::List { .. } => "list",
            Command::Pause { .. } => "pause",
            Command::Resume { .. } => "resume",
            Command::Trigger { .. } => "trigger",
            Command::Flush { .. } => "flush",
            Command::SetInterval { .. } => "set-interval",
            Command::Reload {} => "reload",
        }
    }

    /// As a request.
    pub(crate) fn to_request(&self) -> Map<String, Value> {
        let mut request = Map::from_iter([("schema".to_owned(), SCHEMA.into())]);
        if let Ok(Value::Object(command)) = serde_json::to_value(self) {
            request.extend(command);
        }
        request
    }

    /// Reads a request.
    pub(crate) fn from_request(line: &[u8]) -> Result<Self, Problem> {
        let bad = |e: serde_json::Error| Problem::new(Kind::BadRequest, e);
        let mut request: Map<String, Value> = serde_json::from_slice(line).map_err(bad)?;
        match request.remove("schema") {
            Some(Value::String(schema)) if schema == SCHEMA => {}
            other => {
                let other = other.unwrap_or_default();
                let message = format!("this agent speaks {SCHEMA}; the request's schema is {other}");
                return Err(Problem::new(Kind::UnknownSchema, message));
            }
        }
        Self::deserialize(Value::Object(request)).map_err(bad)
    }
}

/// What became of a command. What a command has nothing to say about is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// The command's name; empty if the request held none that could be read.
    pub(crate) command: String,
    /// Whether all of it was done.
    pub(crate) ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Problem>,
    /// Of `status`: who answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<AgentInfo>,
    /// Of `list`: names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) names: Option<Vec<String>>,
    /// Of `status`: all that match. Of `trigger`, `flush` and `reload`: those concerned that do not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) elements: Option<Vec<Element>>,
    /// Names of the elements that have done what they were told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) done: Option<Vec<String>>,
    /// Names of those that had not answered in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) late: Option<Vec<String>>,
    /// Of `reload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reload: Option<Reloaded>,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AgentInfo {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) start_unix_nano: u64,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// For programs.
    pub(crate) kind: Kind,
    /// For people.
    pub(crate) message: String,
    /// With `no-match`: the elements whose names come nearest, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nearest: Vec<String>,
    /// With `bad-config`: all that is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<String>,
}

/// Kinds of [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The request cannot be read.
    BadRequest,
    /// The request is of another version.
    UnknownSchema,
    /// A value makes no sense.
    BadValue,
    /// No element has such a name.
    NoMatch,
    /// The elements are of a kind that cannot do that.
    NotFor,
    /// Elements have not answered in time.
    Late,
    /// Elements have tried and failed.
    Failed,
    /// The new configuration makes no sense; the old one is in force.
    BadConfig,
    /// The agent has as many connections as it takes.
    Busy,
    /// Nobody listens. Said by the client.
    NoAgent,
    /// Not for this user. Said by the client.
    PermissionDenied,
    /// The agent does not answer, or not in a way that can be read. Said by the client.
    NoAnswer,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Problem {
    /// A problem of a kind.
    pub(crate) fn new(kind: Kind, message: impl Display) -> Self {
        Self { kind, message: message.to_string(), nearest: Vec::new(), problems: Vec::new() }
    }
}

impl Reply {
    /// `command` is done.
    pub(crate) fn done(command: &str) -> Self {
        Self { schema: SCHEMA.into(), command: command.into(), ok: true, ..Self::default() }
    }

    /// `command` is not done, or not all of it.
    pub(crate) fn refused(command: &str, problem: Problem) -> Self {
        Self { ok: false, error: Some(problem), ..Self::done(command) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, Kind> {
        Command::from_request(line.as_bytes()).map_err(|problem| problem.kind)
    }

    #[test]
    fn requests_read_back_as_what_they_were() {
        let element: Pattern = "source/rapl/*".parse().unwrap();
        let interval = Some(Duration::from_millis(100));
        for command in [
            Command::Status { element: Pattern::all() },
            Command::SetInterval { element: element.clone(), interval },
            Command::SetInterval { element, interval: None },
            Command::Reload {},
        ] {
            let request = serde_json::to_string(&command.to_request()).unwrap();
            assert!(request.contains(&format!("\"command\":\"{}\"", command.name())), "{request}");
            assert_eq!(read(&request), Ok(command), "{request}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_and_a_slip_of_the_pen_does_not_mean_everything() {
        let all = Ok(Command::Resume { element: Pattern::all() });
        assert_eq!(read(r#"{"schema":"wattrace.control/1","command":"resume"}"#), all);
        for (line, kind) in [
            ("", Kind::BadRequest),
            ("[]", Kind::BadRequest),
            ("{}", Kind::UnknownSchema),
            (r#"{"schema":"wattrace.control/2","command":"status"}"#, Kind::UnknownSchema),
            (r#"{"schema":"wattrace.control/1"}"#, Kind::BadRequest),
            (r#"{"schema":"wattrace.control/1","command":"explode"}"#, Kind::BadRequest),
            (r#"{"schema":"wattrace.control/1","command":"pause"}"#, Kind::BadRequest),
            (r#"{"schema":"wattrace.control/1","command":"resume","elements":"x"}"#, Kind::BadRequest),
            (r#"{"schema":"wattrace.control/1","command":"pause","element":"rapl"}"#, Kind::BadRequest),
        ] {
            assert_eq!(read(line), Err(kind), "{line}");
        }
    }
}
