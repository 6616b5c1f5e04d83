//! What the books know about the use of hardware: amounts by window (`timeline.rs`), the consumers that used
//! it (`consumers.rs`), and which of them hold memory of a device now. Where a domain's energy is that of a
//! group of processes, only theirs counts.

use wattrace_api::Window;

use super::consumers::Consumers;
use super::timeline::{Followed, Timelines, User};
use crate::amounts::Quantity;

/// The usage by which energy is divided.
#[derive(Debug, Default)]
pub(crate) struct UsageRecords {
    pub(crate) timelines: Timelines,
    pub(crate) consumers: Consumers,
    memory: Vec<HeldMemory>,
}

/// Memory of a device that a consumer holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeldMemory {
    /// The device's timeline.
    timeline: usize,
    pub(crate) slot: usize,
    pub(crate) bytes: u64,
}

impl UsageRecords {
    /// Calls `each` with every amount of `followed` in `window`, cut to the part that lies in it. Returns how
    /// many nanoseconds of `window` usage covers.
    pub(crate) fn within(
        &self,
        followed: &Followed,
        window: Window,
        mut each: impl FnMut(User, Quantity, u64),
    ) -> u64 {
        let timeline = self.timelines.get(followed.timeline);
        let Some(members) = &followed.members else {
            return timeline.within(window, followed.location, each);
        };
        let members = members.during(window);
        timeline.within(window, followed.location, |user, quantity, amount| {
            let process = match user {
                User::Consumer(slot) | User::Thread(slot) => self.consumers.process_of(slot as usize),
                User::Idle | User::Unattributed => None,
            };
            let part = process.map_or(0.0, |process| members.part(process));
            if part > 0.0 {
                each(user, quantity, (amount as f64 * part) as u64);
            }
        })
    }

    /// A series of usage on `timeline` about the consumer in `slot` has ended.
    pub(crate) fn release(&mut self, slot: usize, timeline: usize) {
        let end = self.timelines.get(timeline).end();
        self.consumers.release(slot, end.unwrap_or_default());
    }

    /// The consumer in `slot` holds `bytes` of memory of the device of `timeline`.
    pub(crate) fn hold(&mut self, timeline: usize, slot: usize, bytes: u64) {
        self.hold_nothing(timeline, slot);
        self.memory.push(HeldMemory { timeline, slot, bytes });
    }

    /// The consumer in `slot` holds no memory of that device any more.
    pub(crate) fn hold_nothing(&mut self, timeline: usize, slot: usize) {
        self.memory.retain(|held| (held.timeline, held.slot) != (timeline, slot));
    }

    /// Who holds memory of the device of `timeline`.
    pub(crate) fn held_on(&self, timeline: usize) -> impl Iterator<Item = &HeldMemory> {
        self.memory.iter().filter(move |held| held.timeline == timeline && held.bytes > 0)
    }
}
