//! Recent usage, window by window: what `account.rs` reads an energy window's weights from.
//!
//! Within a window usage is taken to be even, so that a cumulative curve of straight pieces results, whose
//! value at any edge of an energy window is known and whose integral is the usage itself. There is one such
//! timeline for CPU packages, one for cores, and one for each device, since each is told in windows of its
//! own.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use wattrace_api::{Follows, Resource, Timestamp, Window};

use crate::amounts::Quantity;

/// Who used something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// Nobody.
    Idle,
    /// Somebody unknown.
    Unattributed,
    /// The consumer in this slot.
    Consumer(usize),
    /// The thread in this slot, whose process has used it already.
    Thread(usize),
}

/// How much of one quantity `user` used at `place`: a package's or a core's number; 0 on a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub(crate) user: User,
    pub(crate) place: u32,
    pub(crate) quantity: Quantity,
    pub(crate) amount: u64,
}

#[derive(Debug, Default)]
struct UsageWindow {
    window: Window,
    uses: Vec<Use>,
}

/// The windows not yet used up by every domain, in the order in which they end.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    windows: VecDeque<UsageWindow>,
    spare: Vec<Vec<Use>>,
    end: Option<Timestamp>,
    /// Uses of the segment that is being taken in.
    staged: Vec<Use>,
}

impl Usage {
    /// Notes a use in the window that the next [`Usage::add`] names.
    pub(crate) fn stage(&mut self, used: Use) {
        self.staged.push(used);
    }

    /// Takes in what was staged, as the uses of `window`.
    pub(crate) fn add(&mut self, window: Window) {
        if self.staged.is_empty() {
            return;
        }
        let next = self.spare.pop().unwrap_or_default();
        let uses = std::mem::replace(&mut self.staged, next);
        // Nearly always the last: only where several sources tell of one place may one be later than the
        // next.
        let at = self.first_after(window.end);
        self.windows.insert(at, UsageWindow { window, uses });
        self.end = Some(self.end.map_or(window.end, |e| e.max(window.end)));
    }

    /// The first of the windows that end after `time`. Thousands are remembered where they are a millisecond
    /// long, and few of them are asked for.
    fn first_after(&self, time: Timestamp) -> usize {
        self.windows.partition_point(|usage| usage.window.end <= time)
    }

    /// Up to when usage is known; `None` before the first window.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// Calls `each` with every use that falls into `window` at `place` (`None`: anywhere), cut to the part
    /// that does. Returns how many nanoseconds of `window` are covered by usage.
    pub(crate) fn within(
        &self,
        window: Window,
        place: Option<u32>,
        mut each: impl FnMut(User, Quantity, u64),
    ) -> u64 {
        let mut covered = 0;
        for usage in self.windows.range(self.first_after(window.start)..) {
            let start = usage.window.start.max(window.start);
            let end = usage.window.end.min(window.end);
            let (part, whole) = (Window::new(start, end).nanos(), usage.window.nanos());
            if part == 0 {
                continue;
            }
            covered += part;
            for usage in usage.uses.iter().filter(|u| place.is_none_or(|p| p == u.place)) {
                let amount = if part == whole {
                    usage.amount
                } else {
                    (u128::from(usage.amount) * u128::from(part) / u128::from(whole)) as u64
                };
                if amount > 0 {
                    each(usage.user, usage.quantity, amount);
                }
            }
        }
        covered.min(window.nanos())
    }

    /// Forgets what nobody needs: windows that end at or before `needed`.
    fn forget(&mut self, needed: Timestamp) {
        while let Some(first) = self.windows.front()
            && first.window.end <= needed
        {
            if let Some(mut used) = self.windows.pop_front() {
                used.uses.clear();
                self.spare.push(used.uses);
            }
        }
    }

    /// From when on usage is remembered.
    fn start(&self) -> Option<Timestamp> {
        self.windows.front().map(|usage| usage.window.start)
    }
}

/// All timelines.
#[derive(Debug)]
pub(crate) struct Timelines {
    all: Vec<Usage>,
    devices: FxHashMap<Resource, usize>,
}

/// The timeline of packages, and that of cores; devices follow.
pub(crate) const PACKAGES: usize = 0;
pub(crate) const CORES: usize = 1;

impl Default for Timelines {
    fn default() -> Self {
        Self { all: vec![Usage::default(), Usage::default()], devices: FxHashMap::default() }
    }
}

impl Timelines {
    /// The number of the timeline of `device`, which is begun if it is new.
    pub(crate) fn of_device(&mut self, device: &Resource) -> usize {
        if let Some(&number) = self.devices.get(device) {
            return number;
        }
        self.all.push(Usage::default());
        self.devices.insert(device.clone(), self.all.len() - 1);
        self.all.len() - 1
    }

    /// The timeline that a domain's energy follows, and the place on it (`None`: all of it).
    pub(crate) fn followed(&mut self, follows: &Follows) -> (usize, Option<u32>) {
        match follows {
            Follows::Cpus => (PACKAGES, None),
            Follows::Package(package) => (PACKAGES, Some(*package)),
            Follows::Core(cpu) => (CORES, Some(*cpu)),
            Follows::Device(device) => (self.of_device(device), None),
        }
    }

    pub(crate) fn get(&self, number: usize) -> &Usage {
        &self.all[number]
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> &mut Usage {
        &mut self.all[number]
    }

    /// The uses that were staged are those of `window`.
    pub(crate) fn add(&mut self, window: Window) {
        self.all.iter_mut().for_each(|usage| usage.add(window));
    }

    /// Up to when usage is known somewhere.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.all.iter().filter_map(Usage::end).max()
    }

    /// Forgets windows that end at or before `needed`, and those older than `history`.
    pub(crate) fn forget(&mut self, needed: Timestamp, history: Duration) {
        let history = u64::try_from(history.as_nanos()).unwrap_or(u64::MAX);
        let oldest = Timestamp(self.end().unwrap_or_default().0.saturating_sub(history));
        self.all.iter_mut().for_each(|usage| usage.forget(needed.max(oldest)));
    }

    /// From when on usage is remembered somewhere.
    pub(crate) fn start(&self) -> Option<Timestamp> {
        self.all.iter().filter_map(Usage::start).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: u64, end: u64) -> Window {
        Window::new(Timestamp(start), Timestamp(end))
    }

    fn timelines() -> Timelines {
        let mut timelines = Timelines::default();
        let usage = timelines.get_mut(PACKAGES);
        let of =
            |slot, place, amount| Use { user: User::Consumer(slot), place, quantity: Quantity::Time, amount };
        usage.stage(of(1, 0, 80));
        usage.stage(of(2, 1, 50));
        usage.add(window(0, 100));
        usage.stage(of(1, 0, 40));
        usage.add(window(100, 200));
        timelines
    }

    fn within(usage: &Usage, w: Window, package: Option<u32>) -> (u64, Vec<(User, u64)>) {
        let mut seen = Vec::new();
        let covered = usage.within(w, package, |user, _, ns| seen.push((user, ns)));
        (covered, seen)
    }

    #[test]
    fn a_window_takes_the_part_that_it_overlaps_on_its_package() {
        let timelines = timelines();
        let usage = timelines.get(PACKAGES);
        let (one, two) = (User::Consumer(1), User::Consumer(2));
        assert_eq!(within(usage, window(50, 150), Some(0)), (100, vec![(one, 40), (one, 20)]));
        assert_eq!(within(usage, window(0, 100), Some(1)), (100, vec![(two, 50)]));
        assert_eq!(within(usage, window(0, 200), None).1.iter().map(|u| u.1).sum::<u64>(), 170);
        assert_eq!(within(usage, window(150, 250), None), (50, vec![(one, 20)]), "half is not covered");
    }

    #[test]
    fn what_is_used_up_or_too_old_is_forgotten() {
        let mut usage = timelines();
        usage.forget(Timestamp(99), Duration::from_secs(1));
        assert_eq!(usage.start(), Some(Timestamp(0)));
        usage.forget(Timestamp(100), Duration::from_secs(1));
        assert_eq!(usage.start(), Some(Timestamp(100)));
        // A device's usage is old as well once that of CPUs has gone on.
        let gpu = usage.of_device(&Resource::gpu("x".into()));
        assert_eq!(usage.followed(&Follows::Device(Resource::gpu("x".into()))), (gpu, None));
        let used = Use { user: User::Idle, place: 0, quantity: Quantity::Time, amount: 1 };
        usage.get_mut(gpu).stage(used);
        usage.add(window(200, 2000));
        usage.forget(Timestamp(0), Duration::from_nanos(1000));
        assert_eq!((usage.start(), usage.end()), (Some(Timestamp(200)), Some(Timestamp(2000))));
        assert_eq!(usage.get(PACKAGES).start(), None);
    }
}
