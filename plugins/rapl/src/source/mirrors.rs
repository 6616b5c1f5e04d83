//! Finds counters that are one and the same. On some processors (AMD's Zen 1 and 2) the kernel shows a
//! package as several dies, and each die's counter reads the register of the whole socket: their sum would
//! be a multiple of the truth.
//!
//! Two counters of one piece of hardware are suspects. They are the same if they grow by the same energy over
//! several readings: counters of different hardware drift apart, those of one register stay within a refresh
//! of each other, however long one looks. A suspect does not count until it is known. When it turns out to be
//! different, its first window begins when it was opened, so nothing is lost. `standing.rs` decides.

use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Registry, Timestamp};
use wattrace_meter::CounterChannel;

use super::group::PolledGroup;
use super::standing::{Likeness, Standing, Suspicion, compare};

/// Values that are further apart when they are opened, in raw units of a microjoule or more, are probably not
/// of one register.
const FAR_APART: u64 = 20_000_000;

/// Marks the groups that may be the same as an earlier one. They were opened at `now`.
pub(super) fn suspect(groups: &mut [PolledGroup], now: Timestamp) {
    for at in 1..groups.len() {
        let (earlier, group) = (&groups[..at], &groups[at]);
        let twins: Vec<usize> = (0..at).filter(|&other| covers(&earlier[other], group)).collect();
        if twins.is_empty() {
            continue;
        }
        let far = |other: &usize| {
            let pairs = pairs(&earlier[*other], group);
            pairs
                .iter()
                .any(|&(a, b)| earlier[*other].readings()[a].abs_diff(group.readings()[b]) > FAR_APART)
        };
        let counts = twins.iter().all(far);
        groups[at].standing = Standing::Suspect(Suspicion::new(twins, now, counts));
    }
}

/// Whether each counter of `group` may be a counter of `other`.
fn covers(other: &PolledGroup, group: &PolledGroup) -> bool {
    pairs(other, group).len() == group.channels.len()
}

/// The indices of counters of `other` and `group` that are about the same hardware.
fn pairs(other: &PolledGroup, group: &PolledGroup) -> Vec<(usize, usize)> {
    let same = |a: &CounterChannel, b: &CounterChannel| {
        let (a, b) = (a.series.subject(), b.series.subject());
        a.metric == b.metric && a.resource == b.resource && a.domain.follows == b.domain.follows
    };
    let twin = |b| other.channels.iter().position(|a| same(a, &group.channels[b]));
    (0..group.channels.len()).filter_map(|b| Some((twin(b)?, b))).collect()
}

/// Compares the suspects with their twins, and lets them count or leaves them out as soon as that is known.
pub(super) fn judge(
    groups: &mut [PolledGroup],
    clock: &Clock,
    registry: &Arc<Registry>,
    out: &mut Batch,
) -> Result<(), Error> {
    if !groups.iter().any(|group| matches!(group.standing, Standing::Suspect(_))) {
        return Ok(());
    }
    // Read one right after the other.
    let now = clock.now();
    let totals: Vec<_> = groups.iter_mut().map(|group| group.totals(now)).collect();
    for at in 0..groups.len() {
        let Standing::Suspect(mut suspicion) = groups[at].standing.clone() else { continue };
        let elapsed = now.since(suspicion.opened);
        let likeness = |&other: &usize| {
            let (Some(theirs), Some(ours)) = (&totals[other], &totals[at]) else { return Likeness::Unknown };
            let pairs = pairs(&groups[other], &groups[at]);
            pairs
                .iter()
                .map(|&(a, b)| compare(theirs[a], ours[b], elapsed))
                .max()
                .unwrap_or(Likeness::Unknown)
        };
        suspicion.twins.retain(|twin| likeness(twin) != Likeness::Different);
        let closest = suspicion.twins.iter().map(likeness).min();
        let counted = suspicion.counts;
        groups[at].standing = suspicion.next(closest, now);
        match (counted, groups[at].standing.counts()) {
            (false, true) => groups[at].publish(registry)?,
            (true, false) => groups[at].end(out),
            _ => {}
        }
        if let Standing::Mirror = groups[at].standing {
            let left_out = groups[at].channels.iter().map(|c| &*c.series.subject().domain.name);
            let left_out = left_out.collect::<Vec<_>>().join(", ");
            tracing::warn!("left out: {left_out} shows what another counter of the same package shows");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
