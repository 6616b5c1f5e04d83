//! Text from outside (names of processes, containers, foreign metrics, answers of servers) made safe to show.
//! Any user can name a process, so a name may hold escape sequences of a terminal, line feeds, and characters
//! that change the direction of the text or have no width, so that one name looks like another.

use std::borrow::Cow;

/// Characters without a glyph of their own, beside the control characters: they change the direction of
/// text, break lines, or are invisible.
const INVISIBLE: [(char, char); 14] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether `c` must not reach a terminal or a spreadsheet as it is: a control character, or an invisible one.
pub fn is_unsafe(c: char) -> bool {
    c.is_control() || (!c.is_ascii() && INVISIBLE.iter().any(|&(first, last)| (first..=last).contains(&c)))
}

/// `text` with a `?` for each character that [`is_unsafe`].
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |_, out| out.push('?'))
}

/// `text` with what `escape` writes for each character that [`is_unsafe`].
pub fn escaped(text: &str, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) { escape(c, &mut safe) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_invisible_ones_are_replaced_and_letters_stay() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}d\u{7f}\t"), "a?[2Jb?c?d??");
        for c in "\u{202e}\u{2066}\u{200b}\u{200f}\u{61c}\u{feff}\u{ad}\u{2028}\u{3164}\u{e0041}".chars() {
            assert_eq!(printable(&format!("a{c}b")), "a?b", "{:x}", c as u32);
        }
        for name in ["früh-日本", "ёлка", "שלום", "مرحبا", "naïve", "🦀"] {
            assert_eq!(printable(name), name);
        }
    }
}
