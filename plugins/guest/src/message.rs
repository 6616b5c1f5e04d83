//! What a host says of a machine: one line of JSON. Pure.
//!
//! ```json
//! {"schema":"wattrace.share/1","machine":"web","session":1763850000000000000,"start_unix_nano":1763850000000000000,"as_of_unix_nano":1763850060000000000,"age_nano":1200000,"domains":[{"domain":"package-0","origin":"measured","part":true,"microjoules":123456}]}
//! ```

use serde::{Deserialize, Serialize};

/// The format's name and version; keys may be added to it, and are skipped by whoever does not know them.
pub(crate) const SCHEMA: &str = "wattrace.share/1";
/// A longer message is none.
pub(crate) const LONGEST: u64 = 256 * 1024;
/// The file in a machine's directory.
pub(crate) const FILE: &str = "share.json";
/// The socket in a machine's directory.
pub(crate) const SOCKET: &str = "share.sock";

/// A machine's energy so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    /// [`SCHEMA`].
    pub(crate) schema: String,
    /// Whose it is, by the host's name for it.
    pub(crate) machine: String,
    /// Changes when the host's agent starts anew. The counters go on; what was used meanwhile is not in them.
    pub(crate) session: u64,
    /// When the counters stood at zero, in nanoseconds since the Unix epoch, by the host's clock. Another
    /// start is another counter.
    pub(crate) start_unix_nano: u64,
    /// The end of the last window that is in the counters.
    pub(crate) as_of_unix_nano: u64,
    /// How long ago that was when this was written or sent, by the host's monotonic clock.
    pub(crate) age_nano: u64,
    /// The counters.
    pub(crate) domains: Vec<DomainShare>,
}

/// A machine's energy in one of the host's domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DomainShare {
    /// The host's name for it: `package-0`.
    pub(crate) domain: String,
    /// The meter's: `measured`, `estimated` or `simulated`.
    pub(crate) origin: String,
    /// Whether it belongs into a sum: it is contained in no other domain, nor is it the whole host.
    pub(crate) part: bool,
    /// Since the start.
    pub(crate) microjoules: u64,
}

impl Share {
    /// Reads a message.
    ///
    /// # Errors
    /// What makes no sense.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let share: Self = serde_json::from_str(text.trim_end()).map_err(|e| e.to_string())?;
        if share.schema != SCHEMA {
            return Err(format!("the schema is `{}`, and {SCHEMA} is what is understood", share.schema));
        }
        if share.as_of_unix_nano < share.start_unix_nano {
            return Err("it is of a time before its own start".to_owned());
        }
        Ok(share)
    }

    /// The message, with its line's end.
    pub(crate) fn to_line(&self) -> String {
        // Strings and numbers always serialise.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// The name of a machine's directory: what is no letter, digit, `_`, `-` or inner dot is written as `%` and
/// two digits. `None`: it would be empty, or longer than file systems allow.
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

    const LINE: &str = r#"{"schema":"wattrace.share/1","machine":"web","session":7,"start_unix_nano":5,"as_of_unix_nano":6,"age_nano":1,"of_tomorrow":null,"domains":[{"domain":"package-0","origin":"measured","part":true,"microjoules":18446744073709551615}]}"#;

    #[test]
    fn what_is_written_is_read_again() {
        let share = Share::parse(LINE).unwrap();
        assert_eq!((&*share.machine, share.domains[0].microjoules), ("web", u64::MAX));
        assert_eq!(Share::parse(&share.to_line()), Ok(share));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (from, to, why) in [
            ("share/1", "share/2", "schema"),
            ("\"as_of_unix_nano\":6", "\"as_of_unix_nano\":4", "before its own start"),
            ("18446744073709551615", "18446744073709551616", "line 1"),
            ("18446744073709551615", "-1", "line 1"),
            ("\"session\":7,", "", "session"),
            ("]}", "]", "EOF"),
        ] {
            let refused = Share::parse(&LINE.replace(from, to)).unwrap_err();
            assert!(refused.contains(why), "{to}: {refused}");
        }
    }

    #[test]
    fn a_machine_s_name_cannot_lead_out_of_its_directory() {
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
