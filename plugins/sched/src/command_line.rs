//! Formats a command line for display: arguments joined and quoted as one would type them, with values hidden
//! that look like secrets.

/// Replaces a secret.
const HIDDEN: &str = "***";
/// Words that, in the name of an option or variable, make its value a secret.
const SECRET: [&str; 9] =
    ["passw", "secret", "token", "apikey", "api-key", "api_key", "credential", "private", "auth"];

/// What separates words within an argument, which may be a shell script, a URL with a query or JSON.
const SEPARATORS: &[char] = &[' ', '\t', '\n', '\r', '"', '\'', '`', '&', '?', ';', ',', '{', '(', '='];

/// The command line of `arguments`, each terminated by a zero. The last one may be truncated.
pub(crate) fn readable(arguments: &[u8]) -> String {
    let mut line = String::new();
    let mut hide_next = false;
    let (arguments, is_cut) = match arguments.strip_suffix(b"\0") {
        Some(arguments) => (arguments, false),
        None => (arguments, true),
    };
    let last = arguments.iter().filter(|&&byte| byte == 0).count();
    for (number, argument) in arguments.split(|&byte| byte == 0).map(String::from_utf8_lossy).enumerate() {
        if !line.is_empty() {
            line.push(' ');
        }
        let is_option = argument.starts_with('-');
        if std::mem::take(&mut hide_next) && !is_option {
            line.push_str(HIDDEN);
            continue;
        }
        let shown = without_passwords(&argument, is_cut && number == last);
        match secret_in(&shown) {
            Some(at) => {
                push(&mut line, &shown[..at]);
                line.push_str(HIDDEN);
            }
            None => {
                hide_next = is_option && is_secret(&argument);
                push(&mut line, &shown);
            }
        }
    }
    line
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// The start in `argument` of the first value whose name makes it a secret: `token=x`, `"token": "x"`,
/// `--token x`.
fn secret_in(argument: &str) -> Option<usize> {
    argument.match_indices(['=', ':', ' ']).find_map(|(at, sign)| {
        let (before, after) = (&argument[..at], &argument[at + 1..]);
        let name = before.trim_end_matches(['"', '\'']).rsplit(SEPARATORS).next().unwrap_or_default();
        let is_named = match sign {
            "=" => true,
            // In a header or in JSON, but not before a port.
            ":" => after.starts_with([' ', '"', '\'']),
            _ => name.starts_with('-') && !after.trim_start().starts_with('-'),
        };
        (is_named && is_secret(name)).then_some(at + 1)
    })
}

/// `argument` with the password hidden in each `scheme://user:password@host`.
fn without_passwords(argument: &str, is_cut: bool) -> String {
    let (mut shown, mut rest) = (String::with_capacity(argument.len()), argument);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        rest = after;
        let end = after.find(|c: char| matches!(c, '/' | '"' | '\'') || c.is_whitespace());
        let host = after[..end.unwrap_or(after.len())].rfind('@');
        // What distinguishes a password from a port may be missing in a truncated argument.
        let host = host.or((is_cut && end.is_none()).then_some(after.len()));
        if let Some(host) = host
            && let Some((user, password)) = after[..host].split_once(':')
            && (host < after.len() || !password.bytes().all(|b| b.is_ascii_digit()))
        {
            shown.extend([user, ":", HIDDEN]);
            rest = &after[host..];
        }
    }
    shown + rest
}

fn push(line: &mut String, argument: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+*".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return line.push_str(argument);
    }
    line.push('\'');
    line.push_str(&argument.replace('\'', r"'\''"));
    line.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_joined_as_one_would_type_them() {
        assert_eq!(readable(b"sh\0-c\0echo it's\0"), r"sh -c 'echo it'\''s'");
        assert_eq!(readable(b"printf\0\0%s\0"), "printf '' %s");
        assert_eq!(readable(b"cut-sho"), "cut-sho");
    }

    #[test]
    fn secrets_are_hidden() {
        for (arguments, shown) in [
            (&b"db\0--password=hunter2\0-v\0"[..], "db --password=*** -v"),
            (b"db\0--api-key\0hunter2\0go\0", "db --api-key *** go"),
            (b"env\0DB_PASSWORD=hunter2\0run\0", "env DB_PASSWORD=*** run"),
            (b"curl\0https://me:hunter2@example.org/x\0", "curl https://me:***@example.org/x"),
            (b"curl\0--url=https://me:hunter2@example.org\0", "curl --url=https://me:***@example.org"),
            (b"curl\0https://example.org/a:b@c\0", "curl https://example.org/a:b@c"),
            (b"tool\0--token\0--verbose\0", "tool --token --verbose"),
            (
                b"sh\0-c\0curl http://a/ && curl https://me:hunter2@b\0",
                "sh -c 'curl http://a/ && curl https://me:***@b'",
            ),
            (b"sh\0-c\0db --token hunter2\0-v\0", "sh -c 'db --token '*** -v"),
            (b"sh\0-c\0a=1 db --password=hunter2\0", "sh -c 'a=1 db --password='***"),
            (b"curl\0https://x/?a=1&token=hunter2\0", "curl 'https://x/?a=1&token='***"),
            (b"curl\0https://me:mytoken=hunter2@x/\0", "curl https://me:***@x/"),
            (b"curl\0-H\0Authorization: Bearer hunter2\0", "curl -H Authorization:***"),
            (
                b"post\0{\"user\": \"me\", \"password\": \"hunter2\"}\0",
                "post '{\"user\": \"me\", \"password\":'***",
            ),
            (b"curl\0https://me:hunt", "curl https://me:***"),
            (b"curl\0https://auth.example.org:443", "curl https://auth.example.org:443"),
            (b"curl\0https://me:hunter2", "curl https://me:***"),
        ] {
            assert_eq!(readable(arguments), shown);
        }
    }
}
