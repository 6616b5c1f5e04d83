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
