//! Hides secrets in a configuration that is shown, and in messages about it. A plugin declares its secrets
//! by their type (`wattrace_api::Secret`); this hides what else looks like one, by its key or as a part of a
//! URL.

use toml::{Table, Value};
use wattrace_api::secret::HIDDEN;

/// The ends of keys whose values are secrets.
const KEYS: [&str; 8] =
    ["token", "password", "passwd", "passphrase", "secret", "authorization", "cookie", "api_key"];

/// Tables whose values may all be secrets: headers of requests, environments of programs.
const TABLES: [&str; 2] = ["headers", "env"];

/// `table` with its secrets hidden. Values of plugins' `Secret`s are hidden already.
pub(super) fn hide(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        let all = TABLES.contains(&key.as_str());
        hide_value(value, all || is_secret(key));
    }
}

fn hide_value(value: &mut Value, is_secret: bool) {
    match value {
        Value::String(text) if is_secret && !text.is_empty() => HIDDEN.clone_into(text),
        Value::String(text) => *text = without_userinfo(text),
        Value::Array(values) => values.iter_mut().for_each(|v| hide_value(v, is_secret)),
        Value::Table(table) if is_secret => table.iter_mut().for_each(|(_, v)| hide_value(v, true)),
        Value::Table(table) => hide(table),
        _ => {}
    }
}

/// The text of a value of `key`, which may be a path of keys, for a message.
pub(super) fn shown(key: &str, text: &str) -> String {
    let mut parts = key.split('.');
    let is_in_table = parts.clone().any(|part| TABLES.contains(&part));
    if is_in_table || parts.next_back().is_some_and(is_secret) {
        HIDDEN.into()
    } else {
        without_userinfo(text)
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    KEYS.iter().any(|end| key.ends_with(end))
}

/// `text` with `user:password@` of every URL in it hidden.
fn without_userinfo(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown += before;
        let end = after.find(['/', '?', '#', ' ', '"', '\'']).unwrap_or(after.len());
        let (authority, left) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => shown += &format!("{HIDDEN}@{host}"),
            None => shown += authority,
        }
        rest = left;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_hidden_wherever_it_stands() {
        let mut table: Table = "
            endpoint = 'https://me:pw@host:4317/x?y=a@b'
            other = 'see http://a@b/ and http://c/d@e'
            api-key = 1
            bearer_token = 'hush'
            bearer_token_file = '/etc/token'
            password = ''
            path = '/a@b'
            headers = { x-one = 'hush', 'two' = ['hush'] }
            [[list]]
            env = { PGPASSWORD = 'hush' }
            [table]
            API_KEY = 'hush'
        "
        .parse()
        .unwrap();
        hide(&mut table);
        let expected: Table = "
            endpoint = 'https://…@host:4317/x?y=a@b'
            other = 'see http://…@b/ and http://c/d@e'
            api-key = 1
            bearer_token = '…'
            bearer_token_file = '/etc/token'
            password = ''
            path = '/a@b'
            headers = { x-one = '…', 'two' = ['…'] }
            [[list]]
            env = { PGPASSWORD = '…' }
            [table]
            API_KEY = '…'
        "
        .parse()
        .unwrap();
        assert_eq!(table, expected);
    }

    #[test]
    fn messages_do_not_show_secrets() {
        assert_eq!(shown("plugins.otlp.bearer_token", "[\"hush\"]"), "…");
        assert_eq!(shown("plugins.otlp.headers.x", "hush"), "…");
        assert_eq!(shown("plugins.otlp.endpoint", "https://u:hush@h/"), "https://…@h/");
        assert_eq!(shown("plugins.jsonl.path", "x@y"), "x@y");
    }
}
