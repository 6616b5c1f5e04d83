//! The entry for fuzzers: parses and records lines of a program. Not part of the plugin's interface. It must
//! return soon and without a panic, whatever it is given.

use wattrace_api::{Batch, Clock, Registry, Timestamp};
use wattrace_ingest::SegmentWriter;

use crate::labels::ClaimedDomains;
use crate::line_splitter::{LineSplitter, RawLine};
use crate::recorder::PointRecorder;
use crate::wire::Line;

/// Longest line.
const MAX_LINE: usize = 4096;
/// Most series.
const MAX_SERIES: usize = 16;

/// Reads what a program writes, in chunks.
pub fn output(bytes: &[u8]) {
    let (registry, clock) = (Registry::new(), Clock::manual(Timestamp(10_000_000_000)));
    let domains = ClaimedDomains::default();
    let mut recorder = PointRecorder::new(registry.clone(), clock.clone(), domains, MAX_SERIES);
    let mut batch = Batch::default();
    let mut writer = SegmentWriter::new(&mut batch);
    let mut second = 10;
    let mut take = |line: RawLine| {
        second += 1;
        clock.set(Timestamp(second * 1_000_000_000));
        let Some(text) = line.text else { return };
        assert!(text.len() <= MAX_LINE);
        match Line::parse(&text) {
            Ok(Line::Metric(metric)) => _ = recorder.declare(&metric),
            Ok(Line::Point(point)) => _ = recorder.record(&point, &mut writer),
            Ok(Line::Points(points)) => {
                points.points.iter().for_each(|point| _ = recorder.record(point, &mut writer));
                points.end.iter().for_each(|name| _ = recorder.end(name, &mut writer));
            }
            _ => {}
        }
    };
    let mut splitter = LineSplitter::new(MAX_LINE);
    bytes.chunks(100).for_each(|chunk| splitter.feed(chunk, &mut take));
    splitter.finish(&mut take);
    recorder.end_all(&mut writer);
    registry.release(batch.ended());
    assert!(registry.series().is_empty(), "every series has ended");
    let windows = batch.segments().map(|segment| segment.window);
    windows.for_each(|window| assert!(window.start <= window.end, "no window ends before it starts"));
}
