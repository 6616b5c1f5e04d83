//! Bars: a row of blocks whose heights are values, in one line or more.

/// Eighths of a line.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Bars of `values`, the newest at the right, in `width` columns and one line. The largest is as high as
/// `peak`, or higher.
pub(crate) fn line(values: &[f32], width: usize, peak: f32) -> String {
    lines(values, width, 1, peak).pop().unwrap_or_default()
}

/// The same in `height` lines, the top one first.
pub(crate) fn lines(values: &[f32], width: usize, height: usize, peak: f32) -> Vec<String> {
    let shown = &values[values.len().saturating_sub(width)..];
    let peak = shown.iter().fold(peak.max(f32::MIN_POSITIVE), |peak, value| peak.max(*value));
    let eighths: Vec<_> = shown.iter().map(|value| to_eighths(*value, height, peak)).collect();
    (0..height)
        .rev()
        .map(|line| {
            let block = |eighths: &usize| BLOCKS[eighths.saturating_sub(8 * line).min(8)];
            " ".repeat(width - shown.len()) + &eighths.iter().map(block).collect::<String>()
        })
        .collect()
}

/// What is above zero is visible.
fn to_eighths(value: f32, height: usize, peak: f32) -> usize {
    if value <= 0.0 || !value.is_finite() {
        return 0;
    }
    ((value / peak * (8 * height) as f32).round() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_at_the_right_and_the_largest_fills_the_height() {
        assert_eq!(line(&[0.0, 1.0, 4.0, 8.0], 6, 0.0), "   ▁▄█");
        assert_eq!(line(&[9.0, 8.0, 4.0], 2, 0.0), "█▄");
        assert_eq!(lines(&[8.0, 12.0, 16.0], 3, 2, 0.0), [" ▄█", "███"]);
        assert_eq!(line(&[0.001, 4.0], 2, 8.0), "▁▄", "a little is visible");
        assert_eq!((line(&[], 3, 0.0), line(&[f32::NAN], 1, 1.0)), ("   ".to_owned(), " ".to_owned()));
    }
}
