//! Text from outside, an answer of a collector or of a proxy, as it is shown in a log.

use wattrace_api::text::is_unsafe;

/// Most characters that are shown.
pub const MOST_SHOWN: usize = 300;

/// `text` from outside, as it may stand in a line of the log: one line, cut, without control characters.
pub fn shown(text: &str) -> String {
    let visible = text.chars().map(|c| if is_unsafe(c) { ' ' } else { c });
    let mut shown: String = visible.take(MOST_SHOWN).collect();
    shown.truncate(shown.trim_end().len());
    if text.chars().nth(MOST_SHOWN).is_some() {
        shown.push('…');
    }
    shown.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_line_of_limited_length_without_control_characters() {
        assert_eq!(shown(" a\nb\u{1b}[31m\u{202e}c \t"), "a b [31m c");
        assert_eq!(shown(&"é".repeat(300)), "é".repeat(300));
        assert_eq!(shown(&"é".repeat(301)), format!("{}…", "é".repeat(300)));
    }
}
