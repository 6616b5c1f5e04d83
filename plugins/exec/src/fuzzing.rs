//! What reads lines that a program wrote, for fuzzers to throw bytes at. Nothing here is for use; it must
//! return, whatever it is given, soon and without a panic.

use wattrace_api::{Batch, Clock, Registry, Timestamp};
use wattrace_ingest::Page;

use crate::inbox::Splitter;
use crate::postings::{Postings, Shared};
use crate::wire::Line;

/// Longest line.
const MOST_BYTES: usize = 4096;
/// Most series.
const MOST_SERIES: usize = 16;

/// What a program writes, in pieces as they may come.
pub fn output(bytes: &[u8]) {
    let (registry, clock) = (Registry::new(), Clock::manual(Timestamp(10_000_000_000)));
    let mut postings = Postings::new(registry.clone(), clock.clone(), Shared::default(), MOST_SERIES);
    let mut batch = Batch::default();
    let mut page = Page::new(&mut batch);
    let mut second = 10;
    let mut take = |line: crate::inbox::Line| {
        second += 1;
        clock.set(Timestamp(second * 1_000_000_000));
        let Some(text) = line.text else { return };
        assert!(text.len() <= MOST_BYTES);
        match Line::parse(&text) {
            Ok(Line::Metric(metric)) => _ = postings.declare(&metric),
            Ok(Line::Point(point)) => _ = postings.post(&point, &mut page),
            Ok(Line::Points(points)) => {
                points.points.iter().for_each(|point| _ = postings.post(point, &mut page));
                points.end.iter().for_each(|name| _ = postings.end(name, &mut page));
            }
            _ => {}
        }
    };
    let mut splitter = Splitter::new(MOST_BYTES);
    bytes.chunks(100).for_each(|piece| splitter.feed(piece, &mut take));
    splitter.finish(&mut take);
    postings.end_all(&mut page);
    registry.release(batch.ended());
    assert!(registry.series().is_empty(), "what was opened is ended");
    let windows = batch.segments().map(|segment| segment.window);
    windows.for_each(|window| assert!(window.start <= window.end, "time does not run back"));
}
