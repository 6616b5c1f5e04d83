//! Formats a command line for display: arguments joined and quoted as one would type them, with values hidden
//! that look like secrets.
//!
//! | file | holds the forms that are known |
//! | --- | --- |
//! | `command_line/names.rs` | `--password=…`, `PGPASSWORD=…`, `Pwd=…;`, `"token": "…"`: by its name |
//! | `command_line/options.rs` | `mysql -p…`, `curl -u user:…`: options with a secret for some programs |
//! | `command_line/tokens.rs` | `ghp_…`, `AKIA…`, `eyJ….eyJ…`, PEM keys: by the value itself |
//! | `command_line/urls.rs` | `https://user:…@host` |
//!
//! What follows a secret in the same argument is hidden with it, because nobody knows where it ends. A secret
//! that only its position marks (`htpasswd -b file user …`) is not recognised.

mod names;
mod options;
mod tokens;
mod urls;

use options::Options;

/// Replaces a secret.
const HIDDEN: &str = "***";

/// The command line of `arguments`, each terminated by a zero. The last one may be truncated.
pub(crate) fn readable(arguments: &[u8]) -> String {
    let mut line = String::new();
    let mut options = Options::default();
    let (arguments, is_cut) = match arguments.strip_suffix(b"\0") {
        Some(arguments) => (arguments, false),
        None => (arguments, true),
    };
    let last = arguments.iter().filter(|&&byte| byte == 0).count();
    for (number, argument) in arguments.split(|&byte| byte == 0).map(String::from_utf8_lossy).enumerate() {
        if !line.is_empty() {
            line.push(' ');
        }
        let by_option = earlier(options.secret_in(&argument), options::secret_in_script(&argument));
        let visible = &argument[..by_option.unwrap_or(argument.len())];
        let is_cut = is_cut && number == last && by_option.is_none();
        let visible = tokens::hidden(&urls::hidden(visible, is_cut), is_cut);
        let by_name = names::secret_in(&visible);
        let visible = &visible[..by_name.unwrap_or(visible.len())];
        let is_hidden = by_option.or(by_name).is_some();
        if !(visible.is_empty() && is_hidden) {
            push(&mut line, visible);
        }
        if is_hidden {
            line.push_str(HIDDEN);
        }
    }
    line
}

/// The first of the arguments: what the program was started as.
pub(crate) fn command(arguments: &[u8]) -> String {
    let end = arguments.iter().position(|&byte| byte == 0).map_or(arguments.len(), |at| at + 1);
    readable(&arguments[..end])
}

fn earlier(a: Option<usize>, b: Option<usize>) -> Option<usize> {
    a.into_iter().chain(b).min()
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
#[path = "command_line/tests.rs"]
mod tests;
