//! Tables for people.

/// Rows whose columns are padded to the widest cell: those in `left` align left, the others right. Each line
/// begins with `indent`.
pub(super) fn aligned<const N: usize>(rows: &[[String; N]], left: &[usize], indent: &str) -> String {
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(c, cell)| {
            let width = widths[c];
            if left.contains(&c) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text += &format!("{indent}{}\n", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// `text`, cut to `most` characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_characters() {
        assert_eq!((shortened("éabc", 4), shortened("éabcd", 4)), ("éabc".into(), "éab…".into()));
    }
}
