//! A command line fit to be shown: arguments joined as one would type them, with what looks like a secret left out.

/// What stands in a secret's place.
const HIDDEN: &str = "***";
/// Words in an option's or variable's name that make its value a secret.
const SECRET: [&str; 9] =
    ["passw", "secret", "token", "apikey", "api-key", "api_key", "credential", "private", "auth"];

/// The command line of `arguments`, each ended by a zero. The last may be cut.
pub(crate) fn readable(arguments: &[u8]) -> String {
    let mut line = String::new();
    let mut hide_next = false;
    let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    for argument in arguments.split(|&byte| byte == 0).map(String::from_utf8_lossy) {
        if !line.is_empty() {
            line.push(' ');
        }
        let is_option = argument.starts_with('-');
        if std::mem::take(&mut hide_next) && !is_option {
            line.push_str(HIDDEN);
            continue;
        }
        match argument.split_once('=') {
            Some((name, _)) if is_secret(name) => {
                line.push_str(name);
                line.push('=');
                line.push_str(HIDDEN);
            }
            Some(_) => push(&mut line, &without_password(&argument)),
            None => {
                hide_next = is_option && is_secret(&argument);
                push(&mut line, &without_password(&argument));
            }
        }
    }
    line
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|word| name.contains(word))
}

/// `scheme://user:password@host` without the password.
fn without_password(argument: &str) -> String {
    let shown = || {
        let (scheme, rest) = argument.split_once("://")?;
        let end = rest.find('/').unwrap_or(rest.len());
        let at = rest[..end].rfind('@')?;
        let (user, _) = rest[..at].split_once(':')?;
        Some(format!("{scheme}://{user}:{HIDDEN}{}", &rest[at..]))
    };
    shown().unwrap_or_else(|| argument.to_owned())
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
    fn secrets_are_left_out() {
        for (arguments, shown) in [
            (&b"db\0--password=hunter2\0-v\0"[..], "db --password=*** -v"),
            (b"db\0--api-key\0hunter2\0go\0", "db --api-key *** go"),
            (b"env\0DB_PASSWORD=hunter2\0run\0", "env DB_PASSWORD=*** run"),
            (b"curl\0https://me:hunter2@example.org/x\0", "curl https://me:***@example.org/x"),
            (b"curl\0--url=https://me:hunter2@example.org\0", "curl --url=https://me:***@example.org"),
            (b"curl\0https://example.org/a:b@c\0", "curl https://example.org/a:b@c"),
            (b"tool\0--token\0--verbose\0", "tool --token --verbose"),
        ] {
            assert_eq!(readable(arguments), shown);
        }
    }
}
