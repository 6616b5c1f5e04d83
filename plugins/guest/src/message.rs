//! The message of a host about a machine: one line of JSON.
//!
//! ```json
//! {"schema":"wattrace.share/1","machine":"web","session":1763850000000000000,
//!  "start_unix_nano":1763850000000000000,"as_of_unix_nano":1763850060000000000,"age_nano":1200000,
//!  "domains":[{"domain":"package-0","origin":"measured","part":true,"microjoules":123456}]}
//! ```

use serde::{Deserialize, Serialize};

/// The format's name and version. Keys may be added to it, so readers ignore keys that they do not know.
pub(crate) const SCHEMA: &str = "wattrace.share/1";
/// Most bytes of a message.
pub(crate) const MAX_LENGTH: u64 = 256 * 1024;
/// The file in a machine's directory.
pub(crate) const FILE: &str = "share.json";
/// The socket in a machine's directory.
pub(crate) const SOCKET: &str = "share.sock";

/// A machine's energy so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// The host's name for the machine.
    pub(crate) machine: String,
    /// Changes when the host's agent restarts. The counters continue, without the energy used meanwhile.
    pub(crate) session: u64,
    /// When the counters were zero, in nanoseconds since the Unix epoch, by the host's clock. With another
    /// start they are other counters.
    pub(crate) start_unix_nano: u64,
    /// The end of the last window in the counters.
    pub(crate) as_of_unix_nano: u64,
    /// How long ago that was when the message was written or sent, by the host's monotonic clock.
    pub(crate) age_nano: u64,
    /// The counters.
    pub(crate) domains: Vec<DomainShare>,
}

/// A machine's energy in one of the host's domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DomainShare {
    /// The host's name for it: `package-0`.
    pub(crate) domain: String,
    /// Of its meter: `measured`, `estimated` or `simulated`.
    pub(crate) origin: String,
    /// Whether it counts in a sum over all domains: it is not part of another domain, nor the whole host.
    pub(crate) part: bool,
    /// Microjoules since the start.
    pub(crate) microjoules: u64,
}

impl Share {
    /// Parses a message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let share: Self = serde_json::from_str(text.trim_end()).map_err(|e| e.to_string())?;
        if share.schema != SCHEMA {
            return Err(format!("the schema is `{}`, and not {SCHEMA}", share.schema));
        }
        if share.as_of_unix_nano < share.start_unix_nano {
            return Err("as_of_unix_nano is before its own start".to_owned());
        }
        Ok(share)
    }

    /// The message as a line.
    pub(crate) fn to_line(&self) -> String {
        // Strings and numbers always serialise.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// The name of a machine's directory: every byte that is not a letter, a digit, `_`, `-` or a dot after the
/// first byte is written as `%` and two hex digits. `None`: it would be empty, or too long for a file system.
pub(crate) fn directory_name(machine: &str) -> Option<String> {
    let mut name = String::with_capacity(machine.len());
    for (at, byte) in machine.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (byte == b'.' && at > 0) {
            name.push(char::from(byte));
        } else {
            name += &format!("%{byte:02X}");
        }
    }
    (1..=200).contains(&name.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"schema":"wattrace.share/1","machine":"web","session":7,"start_unix_nano":5,
        "as_of_unix_nano":6,"age_nano":1,"of_a_later_version":null,"domains":[
        {"domain":"package-0","origin":"measured","part":true,"microjoules":18446744073709551615}]}"#;

    #[test]
    fn a_message_survives_writing_and_reading() {
        let share = Share::parse(LINE).unwrap();
        assert_eq!((&*share.machine, share.domains[0].microjoules), ("web", u64::MAX));
        assert_eq!(Share::parse(&share.to_line()), Ok(share));
    }

    #[test]
    fn invalid_messages_are_refused() {
        for (from, to, why) in [
            ("share/1", "share/2", "schema"),
            ("\"as_of_unix_nano\":6", "\"as_of_unix_nano\":4", "before its own start"),
            ("18446744073709551615", "18446744073709551616", "line 3"),
            ("18446744073709551615", "-1", "line 3"),
            ("\"session\":7,", "", "session"),
            ("]}", "]", "EOF"),
        ] {
            let error = Share::parse(&LINE.replace(from, to)).unwrap_err();
            assert!(error.contains(why), "{to}: {error}");
        }
    }

    #[test]
    fn a_machine_s_name_cannot_escape_its_directory() {
        for (machine, name) in [
            ("web-1", Some("web-1")),
            ("..", Some("%2E.")),
            ("a/../b", Some("a%2F..%2Fb")),
            ("a.b", Some("a.b")),
            ("ü", Some("%C3%BC")),
            ("a%2Fb", Some("a%252Fb")),
            ("", None),
        ] {
            assert_eq!(directory_name(machine).as_deref(), name, "{machine}");
        }
        assert_eq!(directory_name(&"/".repeat(67)), None);
    }
}
