//! Text for a terminal: safe names, cut to a width in cells. `table` puts it into columns.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
use wattrace_api::text::printable;

/// Most cells of a name. Any user can name a process, and as long as they like.
const NAME_MOST: usize = 40;

/// A name from outside, safe for a terminal and of bounded width.
pub(crate) fn name(text: &str) -> String {
    cut(&printable(text), NAME_MOST)
}

/// Cells that `text` takes.
pub(crate) fn cells(text: &str) -> usize {
    text.width()
}

/// `text` cut to `width` cells, with an ellipsis where something is missing.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if cells(text) <= width {
        return text.to_string();
    }
    let mut short = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        // One cell stays for the ellipsis.
        if used >= width {
            break;
        }
        short.push(c);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

/// `text` cut or filled with blanks to exactly `width` cells; the blanks go to its left if `right`.
pub(crate) fn fit(text: &str, width: usize, right: bool) -> String {
    let text = cut(text, width);
    let blanks = " ".repeat(width.saturating_sub(cells(&text)));
    if right { blanks + &text } else { text + &blanks }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_short() {
        assert_eq!(name("a\u{1b}[2Jb\nc\u{9b}d\u{202e}e\u{7f}"), "a?[2Jb?c?d?e?");
        assert_eq!(name("früh-日本"), "früh-日本");
        assert_eq!(name(&"x".repeat(200)), format!("{}…", "x".repeat(39)));
        assert_eq!(cells(&name(&"日".repeat(200))), 39);
    }

    #[test]
    fn text_is_cut_to_cells_and_wide_characters_stay_whole() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 5), "abcd…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!([cut("ab", 1), cut("ab", 0)], ["…", ""]);
        assert_eq!(fit("日本語", 4, false), "日… ");
        assert_eq!(fit("12", 4, true), "  12");
    }
}
