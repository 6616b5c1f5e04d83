//! `--report`: findings without what points to a person or a site. Names of the host and of its users,
//! addresses, identifiers and everything that the user has configured are replaced by what they were.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use serde_json::Value;

use crate::cli::system::text;
use crate::config::Config;
use crate::plugins::Registered;

/// The lowest id of users that are people.
const FIRST_PERSON: u32 = 1000;
/// The id of nobody.
const NOBODY: u32 = 65_534;

/// Shorter texts are in too many words.
const SHORTEST: usize = 3;

/// Knows what must not be shown.
pub(super) struct Scrubber {
    /// Texts, and what is shown instead; the longest first.
    secrets: Vec<(String, &'static str)>,
}

impl Scrubber {
    /// Of the machine below `root`, with this configuration.
    pub(super) fn new(root: &Path, config: &Config, plugins: &[Registered]) -> Self {
        let mut secrets = BTreeSet::new();
        for file in ["proc/sys/kernel/hostname", "etc/hostname"] {
            let name = text(root, file);
            secrets.insert((name.split('.').next().unwrap_or_default().to_owned(), "<host>"));
            secrets.insert((name, "<host>"));
        }
        for line in text(root, "etc/passwd").lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [name, _, id, _, comment, ..] = fields[..]
                && id.parse().is_ok_and(|id: u32| (FIRST_PERSON..NOBODY).contains(&id))
            {
                secrets.insert((name.to_owned(), "<user>"));
                secrets.insert((comment.split(',').next().unwrap_or_default().to_owned(), "<user>"));
            }
        }
        for variable in ["USER", "LOGNAME", "SUDO_USER"] {
            let name = std::env::var(variable).ok().filter(|name| name != "root");
            secrets.extend(name.map(|name| (name, "<user>")));
        }
        for plugin in &config.plugins {
            let defaults = plugins.iter().find(|p| p.name == plugin.name).and_then(|p| (p.defaults)().ok());
            let defaults = defaults.unwrap_or_default();
            for (key, value) in &plugin.table {
                let default = defaults.get(key);
                // Where to look for devices and which of several ways to take are no secrets.
                let is_choice = default.and_then(toml::Value::as_str).is_some_and(is_choice);
                if default != Some(value) && !is_choice && !key.ends_with("_root") {
                    texts(value, &mut |text| {
                        secrets.insert((text.to_owned(), "<setting>"));
                    });
                }
            }
        }
        let mut secrets: Vec<_> = secrets.into_iter().filter(|(text, _)| text.len() >= SHORTEST).collect();
        secrets.retain(|(text, _)| text != "localhost");
        secrets.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Self { secrets }
    }

    /// Replaces what must not be shown in all texts of `value`.
    pub(super) fn scrub(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.scrubbed(text),
            Value::Array(all) => all.iter_mut().for_each(|value| self.scrub(value)),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.scrub(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn scrubbed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (secret, instead) in &self.secrets {
            text = without(&text, secret, instead);
        }
        without_homes(&without_addresses(&text))
    }
}

/// Whether a default is one of several words, so that another value is one of them too.
fn is_choice(default: &str) -> bool {
    !default.is_empty() && default.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Calls `found` for each text in a setting.
fn texts(value: &toml::Value, found: &mut dyn FnMut(&str)) {
    match value {
        toml::Value::String(text) => found(text),
        toml::Value::Array(all) => all.iter().for_each(|value| texts(value, found)),
        toml::Value::Table(all) => all.iter().for_each(|(_, value)| texts(value, found)),
        _ => {}
    }
}

/// `text` with `instead` for each `secret` that is not a part of a longer word.
fn without(text: &str, secret: &str, instead: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(secret) {
        let (before, from) = rest.split_at(at);
        let after = &from[secret.len()..];
        let is_whole =
            !before.chars().next_back().is_some_and(is_word) && !after.chars().next().is_some_and(is_word);
        shown += before;
        shown += if is_whole { instead } else { secret };
        rest = after;
    }
    shown + rest
}

/// `text` without addresses of networks and devices, and without unique identifiers.
fn without_addresses(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '-');
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_part) {
        shown += &rest[..start];
        let token = &rest[start..];
        let end = token.find(|c| !is_part(c)).unwrap_or(token.len());
        shown += &shown_token(&token[..end]);
        rest = &token[end..];
    }
    shown + rest
}

/// What is shown for `token`, which has the characters of addresses only.
fn shown_token(token: &str) -> String {
    let from_core = token.trim_start_matches(['.', '-']);
    let head = &token[..token.len() - from_core.len()];
    let core = from_core.trim_end_matches(['.', ':', '-']);
    let tail = &from_core[core.len()..];
    // An address may have a port.
    let host = core.rsplit_once(':').map_or(core, |(host, _)| host);
    let instead = match core {
        _ if is_grouped(core, '-', &[8, 4, 4, 4, 12]) => "<id>",
        _ if [':', '-'].iter().any(|&mark| is_grouped(core, mark, &[2; 6])) => "<mac>",
        _ if core.parse::<Ipv4Addr>().is_ok() || host.parse::<Ipv4Addr>().is_ok() => "<address>",
        _ if core.len() > 2 && core.parse::<Ipv6Addr>().is_ok() => "<address>",
        _ => return token.to_owned(),
    };
    format!("{head}{instead}{tail}")
}

/// Whether `token` is groups of so many digits, with `mark` between them.
fn is_grouped(token: &str, mark: char, lengths: &[usize]) -> bool {
    let groups: Vec<&str> = token.split(mark).collect();
    let is_hex = |group: &&str| group.bytes().all(|b| b.is_ascii_hexdigit());
    groups.len() == lengths.len()
        && groups.iter().all(is_hex)
        && groups.iter().zip(lengths).all(|(group, length)| group.len() == *length)
}

/// `text` without the names of directories in `/home`.
fn without_homes(text: &str) -> String {
    let mut parts = text.split("/home/");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(['/', ' ', ':', ';', ',', ')', '`', '\'', '"']).unwrap_or(part.len());
        shown += "/home/<user>";
        shown += &part[end..];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrubber(secrets: &[(&str, &'static str)]) -> Scrubber {
        Scrubber { secrets: secrets.iter().map(|&(text, instead)| (text.to_owned(), instead)).collect() }
    }

    #[test]
    fn names_are_replaced_as_whole_words() {
        let scrubber = scrubber(&[("node7.example.org", "<host>"), ("node7", "<host>"), ("ada", "<user>")]);
        for (text, expected) in [
            ("node7.example.org answers", "<host> answers"),
            ("on node7: ada's file", "on <host>: <user>'s file"),
            ("the adapter of node70", "the adapter of node70"),
            ("/srv/ada/profile.toml", "/srv/<user>/profile.toml"),
            ("ada", "<user>"),
        ] {
            assert_eq!(scrubber.scrubbed(text), expected);
        }
    }

    #[test]
    fn addresses_and_identifiers_are_replaced_and_versions_and_devices_are_not() {
        let scrubber = scrubber(&[]);
        for (text, expected) in [
            ("https://192.0.2.17:443/redfish", "https://<address>/redfish"),
            ("at 192.0.2.17.", "at <address>."),
            ("[2001:db8::7]:443", "[<address>]:443"),
            ("fe80::1", "<address>"),
            ("00:1B:44:11:3a:b7 is up", "<mac> is up"),
            ("GPU-6f3c9b2e-1d2f-4a5b-8c7d-0123456789ab", "GPU-<id>"),
            ("kernel 6.18.44", "kernel 6.18.44"),
            ("GPU 0000:01:00.0 (amdgpu)", "GPU 0000:01:00.0 (amdgpu)"),
            ("/home/eve/x.toml: no such file", "/home/<user>/x.toml: no such file"),
            ("in /home/eve", "in /home/<user>"),
            ("a dead bee: face", "a dead bee: face"),
        ] {
            assert_eq!(scrubber.scrubbed(text), expected);
        }
    }

    #[test]
    fn all_texts_of_a_report_are_scrubbed() {
        let mut report = serde_json::json!({ "a": [{ "found": "ada" }, 7, null], "b": { "c": "10.0.0.1" } });
        scrubber(&[("ada", "<user>")]).scrub(&mut report);
        assert_eq!(
            report,
            serde_json::json!({ "a": [{ "found": "<user>" }, 7, null], "b": { "c": "<address>" } })
        );
    }
}
