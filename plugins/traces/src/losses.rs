//! Spans and processes that are lost, by reason.

/// The losses since they were last asked for. Reasons: `refused` (the collector refuses the request for
/// good), `rejected` (spans of a request that it accepted), `too_large` (a span that it does not even take
/// alone), `overflow` (too many wait), `abandoned` (the task that sends has ended), `rate` (a process beyond
/// the limit whose parent is gone), `too_many_processes`, `late` (a series of a process whose span is over),
/// `commands` (events about commands), `unknown_series`; and those of the spool.
#[derive(Debug, Default)]
pub(crate) struct Losses(Vec<(&'static str, u64)>);

impl Losses {
    /// Counts `count` more.
    pub(crate) fn add(&mut self, reason: &'static str, count: u64) {
        if count == 0 {
            return;
        }
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, sum)) => *sum += count,
            None => self.0.push((reason, count)),
        }
    }

    /// All of them; none remain.
    pub(crate) fn take(&mut self) -> Vec<(&'static str, u64)> {
        std::mem::take(&mut self.0)
    }
}
