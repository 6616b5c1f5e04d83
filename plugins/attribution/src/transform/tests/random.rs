//! Random histories of windows, with gaps and overlaps.

use proptest::prelude::*;

use super::*;

proptest! {
    /// Whatever the windows, gaps and overlaps: the books sum to what was measured.
    #[test]
    fn the_books_close_over_random_histories(
        usage in prop::collection::vec((1..400u64, 0..300u64, 0..300u64, 0..300u64, any::<bool>()), 1..40),
        energy in prop::collection::vec((1..700u64, 0..50_000u64), 1..40),
        idle_watts in prop::option::of(0.0..1e6f64),
    ) {
        let config = idle_watts.map_or_else(AttributionConfig::default, |w| with_idle_watts("package-0", w));
        let mut s = Scene::new(config);
        let idle = s.closing(ConsumerKind::Idle, 0);
        let meter = s.meter("package-0", Some(0));
        let (mut pid, mut process, mut totals) = (1, s.process(1, 0), [0u64; 2]);
        let (mut now, mut read, mut measured) = (0, 0, 0);
        let mut batches = Vec::new();
        let mut steps = energy.iter();
        for (length, gap, busy, idling, ends) in usage {
            let start = now + gap / 100;
            totals[0] += busy;
            totals[1] += idling;
            now = start + length;
            let window = Window::new(Timestamp(start), Timestamp(now));
            let mut batch = s.rig.batch(window, &[(process, totals[0]), (idle, totals[1])]);
            if ends {
                batch.end(process);
                pid += 1;
                process = s.process(pid, 0);
                totals[0] = 0;
            }
            batches.push(s.rig.pass(batch).unwrap());
            if let Some(&(length, microjoules)) = steps.next() {
                measured += microjoules;
                batches.push(s.pass(read, read + length, &[(meter, measured)]));
                read += length;
            }
        }
        let mut rest = Batch::default();
        for (_, transform) in &mut s.rig.transforms {
            transform.finish(&mut rest).unwrap();
        }
        batches.push(rest);
        let (books, residual) = s.books(&batches);
        prop_assert_eq!(books.values().sum::<u64>(), measured, "{:?}", books);
        prop_assert_eq!(residual, 0.0);
    }
}
