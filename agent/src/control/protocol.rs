//! The protocol of the control socket: a request is a line of JSON with a [`Command`], and is answered by a
//! line of JSON with a [`Reply`]. Programs other than ours rely on it: a field that exists keeps its meaning,
//! and an incompatible change gets the schema `/2`. The lines themselves are `line.rs`'.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::command::Command;
use crate::pipeline::status::ElementStatus;

/// The schema of every request and every reply.
pub(crate) const SCHEMA: &str = "wattrace.control/1";

/// Maximum length of a request, in bytes. The longest sensible one is a tenth of it.
pub(crate) const MAX_REQUEST: usize = 16 * 1024;

/// The request that carries `command`.
pub(crate) fn write_request(command: &Command) -> Map<String, Value> {
    let mut request = Map::from_iter([("schema".to_owned(), SCHEMA.into())]);
    if let Ok(Value::Object(command)) = serde_json::to_value(command) {
        request.extend(command);
    }
    request
}

/// The command that a request carries.
pub(crate) fn read_request(line: &[u8]) -> Result<Command, Problem> {
    let bad = |e: serde_json::Error| Problem::new(ProblemKind::BadRequest, e);
    let mut request: Map<String, Value> = serde_json::from_slice(line).map_err(bad)?;
    match request.remove("schema") {
        Some(Value::String(schema)) if schema == SCHEMA => {}
        other => {
            let other = other.unwrap_or_default();
            let message = format!("this agent speaks {SCHEMA}; the request's schema is {other}");
            return Err(Problem::new(ProblemKind::UnknownSchema, message));
        }
    }
    Command::deserialize(Value::Object(request)).map_err(bad)
}

/// The outcome of a command. Fields that do not apply to the command are absent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// The command's name; empty if the request could not be read.
    pub(crate) command: String,
    /// Whether the command was carried out completely.
    pub(crate) ok: bool,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Problem>,
    /// Of `status`: the agent that replies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<AgentInfo>,
    /// Of `list`: the names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) names: Option<Vec<String>>,
    /// Of `status`: every element that matches. Of `trigger`, `flush` and `reload`: the affected elements
    /// that do not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) elements: Option<Vec<ElementStatus>>,
    /// Names of the elements that have carried out the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) done: Option<Vec<String>>,
    /// Names of the elements that did not do so in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) late: Option<Vec<String>>,
    /// Of `reload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reload: Option<Reloaded>,
}

/// The agent that replies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AgentInfo {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) start_unix_nano: u64,
}

/// What a reload has changed. Each list holds names of plugins, unless it says otherwise.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// Their tables had changed.
    pub(crate) restarted: Vec<String>,
    /// They were off before.
    pub(crate) started: Vec<String>,
    /// They are off now.
    pub(crate) stopped: Vec<String>,
    /// They are on and were left alone.
    pub(crate) unchanged: Vec<String>,
    /// Keys of `[agent]` that have changed and take effect when the agent is restarted.
    pub(crate) needs_restart: Vec<String>,
}

impl Reloaded {
    /// Whether the elements of `plugin` are new.
    pub(crate) fn has_new(&self, plugin: &str) -> bool {
        self.restarted.iter().chain(&self.started).any(|name| name == plugin)
    }
}

impl Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("restarted", &self.restarted), ("started", &self.started), ("stopped", &self.stopped)];
        let parts = parts.iter().filter(|(_, names)| !names.is_empty());
        let parts: Vec<_> = parts.map(|(what, names)| format!("{what} {}", names.join(", "))).collect();
        match &parts[..] {
            [] => f.write_str("reloaded: no plugin's table has changed"),
            parts => write!(f, "reloaded: {}", parts.join("; ")),
        }
    }
}

/// Why a command was not carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// For programs.
    pub(crate) kind: ProblemKind,
    /// For people.
    pub(crate) message: String,
    /// With `no-match`: the elements with the most similar names, the most similar first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nearest: Vec<String>,
    /// With `bad-config`: everything that is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<String>,
}

/// Kinds of [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProblemKind {
    /// The request cannot be read.
    BadRequest,
    /// The request has another schema.
    UnknownSchema,
    /// A value is out of bounds.
    BadValue,
    /// No element has such a name.
    NoMatch,
    /// The elements are of a kind that cannot do that.
    NotFor,
    /// Elements did not finish in time.
    Late,
    /// Elements failed.
    Failed,
    /// The new configuration is invalid; the old one stays in force.
    BadConfig,
    /// The agent has reached its limit of connections.
    Busy,
    /// Nothing listens on the socket. Set by the client.
    NoAgent,
    /// This user may not connect. Set by the client.
    PermissionDenied,
    /// The agent does not answer, or its answer cannot be read. Set by the client.
    NoAnswer,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Problem {
    /// A problem without lists.
    pub(crate) fn new(kind: ProblemKind, message: impl Display) -> Self {
        Self { kind, message: message.to_string(), nearest: Vec::new(), problems: Vec::new() }
    }
}

impl Reply {
    /// `command` was carried out.
    pub(crate) fn done(command: &str) -> Self {
        Self { schema: SCHEMA.into(), command: command.into(), ok: true, ..Self::default() }
    }

    /// `command` was not carried out, or not completely.
    pub(crate) fn refused(command: &str, problem: Problem) -> Self {
        Self { ok: false, error: Some(problem), ..Self::done(command) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pattern::Pattern;

    fn read(line: &str) -> Result<Command, ProblemKind> {
        read_request(line.as_bytes()).map_err(|problem| problem.kind)
    }

    #[test]
    fn a_request_reads_back_as_the_same_command() {
        let element: Pattern = "source/rapl/*".parse().unwrap();
        let interval = Some(Duration::from_millis(100));
        for command in [
            Command::Status { element: Pattern::all() },
            Command::SetInterval { element: element.clone(), interval },
            Command::SetInterval { element, interval: None },
            Command::Reload {},
        ] {
            let request = serde_json::to_string(&write_request(&command)).unwrap();
            assert!(request.contains(&format!("\"command\":\"{}\"", command.name())), "{request}");
            assert_eq!(read(&request), Ok(command), "{request}");
        }
    }

    #[test]
    fn a_malformed_request_is_refused_and_a_misspelt_field_does_not_mean_every_element() {
        let all = Ok(Command::Resume { element: Pattern::all() });
        assert_eq!(read(r#"{"schema":"wattrace.control/1","command":"resume"}"#), all);
        for (line, kind) in [
            ("", ProblemKind::BadRequest),
            ("[]", ProblemKind::BadRequest),
            ("{}", ProblemKind::UnknownSchema),
            (r#"{"schema":"wattrace.control/2","command":"status"}"#, ProblemKind::UnknownSchema),
            (r#"{"schema":"wattrace.control/1"}"#, ProblemKind::BadRequest),
            (r#"{"schema":"wattrace.control/1","command":"explode"}"#, ProblemKind::BadRequest),
            (r#"{"schema":"wattrace.control/1","command":"pause"}"#, ProblemKind::BadRequest),
            (r#"{"schema":"wattrace.control/1","command":"reload","element":"*"}"#, ProblemKind::BadRequest),
            (r#"{"schema":"wattrace.control/1","command":"resume","elements":"x"}"#, ProblemKind::BadRequest),
            (
                r#"{"schema":"wattrace.control/1","command":"pause","element":"rapl"}"#,
                ProblemKind::BadRequest,
            ),
        ] {
            assert_eq!(read(line), Err(kind), "{line}");
        }
    }
}
