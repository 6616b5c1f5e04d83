//! Passwords before the host: `scheme://user:password@host`, and `user:password@host` as proxies are given.

use super::HIDDEN;

/// A user's name of this length with a digit in it is a token: `https://TOKEN@host`.
const LEAST_TOKEN: usize = 16;

/// `argument` with the password hidden in each URL. It may be truncated.
pub(super) fn hidden(argument: &str, is_cut: bool) -> String {
    let (mut shown, mut rest) = (String::with_capacity(argument.len()), argument);
    if !argument.contains("://") {
        return without_scheme(argument);
    }
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        rest = after;
        let end = after.find(|c: char| matches!(c, '/' | '"' | '\'') || c.is_whitespace());
        let host = after[..end.unwrap_or(after.len())].rfind('@');
        // What distinguishes a password from a port may be missing in a truncated argument.
        let host = host.or((is_cut && end.is_none()).then_some(after.len()));
        let Some(host) = host else { continue };
        match after[..host].split_once(':') {
            Some((user, password)) if host < after.len() || !password.bytes().all(|b| b.is_ascii_digit()) => {
                shown.extend([user, ":", HIDDEN]);
                rest = &after[host..];
            }
            None if host < after.len() && is_token(&after[..host]) => {
                shown.push_str(HIDDEN);
                rest = &after[host..];
            }
            _ => {}
        }
    }
    shown + rest
}

fn is_token(user: &str) -> bool {
    user.len() >= LEAST_TOKEN && user.bytes().any(|b| b.is_ascii_digit())
}

/// `user:password@host`, where a word or an option's value begins so. `image:tag@sha256:…` is an image.
fn without_scheme(argument: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ',' | ';');
    let mut shown = String::with_capacity(argument.len());
    for part in argument.split_inclusive(is_end) {
        let found = part.split_once('@').and_then(|(login, host)| {
            let (user, password) = login.split_once(':')?;
            let is_login = !user.is_empty() && !password.is_empty() && !login.contains(['/', '{', '(']);
            let is_host = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
            let is_digest = host.starts_with("sha256:") || host.starts_with("sha512:");
            (is_login && is_host && !is_digest).then_some((user, host))
        });
        match found {
            Some((user, host)) => shown.extend([user, ":", HIDDEN, "@", host]),
            None => shown.push_str(part),
        }
    }
    shown
}
