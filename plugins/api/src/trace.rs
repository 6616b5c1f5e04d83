//! Distributed traces: the context that travels from process to process in the environment (W3C Trace
//! Context, in the environment carrier of the OpenTelemetry specification), and the events with which a
//! program that runs a command asks for its trace.

use std::fmt;

/// The `tracing` target of spans of the agent's own operation: calls into elements, exports. Their level is
/// TRACE, so they are created only while that operation is traced.
pub const OPERATION: &str = "operation";

/// A span that others may be children of, and whether its trace is recorded.
///
/// ```
/// use wattrace_api::trace::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context = TraceContext::parse(text).unwrap();
/// assert!(context.is_sampled && context.to_string() == text);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace's number; not 0.
    pub trace_id: u128,
    /// The span's number; not 0.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub is_sampled: bool,
}

/// The length of a context of version 00.
const LENGTH: usize = 55;

impl TraceContext {
    /// The environment variable that holds it.
    pub const VARIABLE: &str = "TRACEPARENT";

    /// Reads the value of [`TraceContext::VARIABLE`]: `VERSION-TRACE-SPAN-FLAGS` in lower-case hexadecimal
    /// digits. Of a later version than 00 the known fields count. `None`: it is malformed, and so counts as
    /// absent.
    pub fn parse(text: &str) -> Option<Self> {
        let (known, more) = text.split_at_checked(LENGTH)?;
        let fields: [&str; 4] = known.split('-').collect::<Vec<_>>().try_into().ok()?;
        let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if fields.map(str::len) != [2, 32, 16, 2] || !fields.into_iter().all(is_hex) {
            return None;
        }
        let [version, trace, span, flags] = fields;
        let has_end = more.is_empty() || (version != "00" && more.starts_with('-'));
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (version != "ff" && has_end).then_some(Self { trace_id, span_id, is_sampled })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, is_sampled } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(*is_sampled))
    }
}

/// A command has been started, and is to be traced with all its descendants: they are children of a span that
/// its starter has opened.
#[derive(Clone, Copy, Debug)]
pub struct CommandStarted {
    /// Its pid in the initial PID namespace.
    pub pid: u32,
    /// It was started then or a moment later, in nanoseconds since the Unix epoch.
    pub since_unix_nano: u64,
    /// The starter's span, which the command has in its environment.
    pub context: TraceContext,
}

/// The command has ended, and with it the span of its starter.
#[derive(Clone, Debug)]
pub struct CommandEnded {
    /// The starter's span.
    pub context: TraceContext,
    /// The span that the starter's is a child of, if it found one in its own environment.
    pub parent: Option<TraceContext>,
    /// When it was opened, in nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// When it ended, likewise.
    pub end_unix_nano: u64,
    /// The command's name, without its arguments.
    pub command: String,
    /// The command's exit code, as a shell reports it.
    pub exit_code: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_and_written() {
        let context = TraceContext::parse(VALID).unwrap();
        assert_eq!(context.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((context.span_id, context.is_sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(context.to_string(), VALID);
        let unsampled = TraceContext { is_sampled: false, ..context };
        assert_eq!(TraceContext::parse(&unsampled.to_string()), Some(unsampled));
    }

    #[test]
    fn flags_and_versions_to_come_are_ignored() {
        let of = |text: &str| TraceContext::parse(text).map(|context| context.is_sampled);
        assert_eq!(of(&VALID.replace("-01", "-fe")), Some(false));
        assert_eq!(of(&VALID.replace("-01", "-03")), Some(true));
        assert_eq!(of(&format!("cc{}-what-comes", &VALID[2..])), Some(true));
        assert_eq!(of(&format!("cc{}.what-comes", &VALID[2..])), None);
    }

    #[test]
    fn what_is_malformed_counts_as_absent() {
        let bad = [
            String::new(),
            "00".to_owned(),
            VALID[..54].to_owned(),
            format!("{VALID}-x"),
            VALID.to_uppercase(),
            VALID.replace("00-", "ff-"),
            VALID.replace('-', "_"),
            VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            VALID.replace("b7ad6b7169203331", &"0".repeat(16)),
            VALID.replace("b7ad6b7169203331", "+7ad6b7169203331"),
            "é".repeat(40),
        ];
        for text in bad {
            assert_eq!(TraceContext::parse(&text), None, "{text}");
        }
    }
}
