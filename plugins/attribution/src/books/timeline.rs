//! Recent usage by window. `account.rs` reads from it who used how much during an energy window.
//!
//! Usage is taken to be even within a window, so an energy window gets from each usage window the part that
//! it overlaps. There is one timeline for CPU packages, one for cores and one for each device, because each
//! of them is reported in windows of its own.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use wattrace_api::{Follows, Members, Resource, Timestamp, Window};

use crate::amounts::Quantity;

/// Who used something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// Nobody.
    Idle,
    /// An unknown consumer.
    Unattributed,
    /// The consumer in this slot.
    Consumer(u32),
    /// The thread in this slot. Its process's amounts contain its own.
    Thread(u32),
}

/// How much of one quantity `user` used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsedAmount {
    pub(crate) user: User,
    /// The package's or the core's number; 0 on a device.
    pub(crate) location: u32,
    pub(crate) quantity: Quantity,
    pub(crate) amount: u64,
}

/// Amounts that are remembered on all timelines, 24 bytes each. Where there are more, the oldest windows are
/// forgotten, and energy that a meter reports for them later is unattributed.
const MOST_AMOUNTS: usize = 1 << 19;

/// Emptied lists of amounts that are kept for the next windows of a timeline.
const MOST_SPARE: usize = 2;

/// The usage by which a domain's energy is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) timeline: usize,
    /// The location on it; `None`: all of it.
    pub(crate) location: Option<u32>,
    /// The processes whose usage counts; `None`: everybody's.
    pub(crate) members: Option<Members>,
}

#[derive(Debug, Default)]
struct UsageWindow {
    window: Window,
    amounts: Vec<UsedAmount>,
}

/// The windows that some domain still needs, in the order in which they end.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    windows: VecDeque<UsageWindow>,
    /// How many amounts these have.
    amounts: usize,
    spare: Vec<Vec<UsedAmount>>,
    end: Option<Timestamp>,
    /// Amounts of the segment that is being read.
    staged: Vec<UsedAmount>,
}

impl Timeline {
    /// Adds an amount to the window that the next [`Timeline::add`] names.
    pub(crate) fn stage(&mut self, used: UsedAmount) {
        self.staged.push(used);
    }

    /// Adds what was staged as the usage of `window`.
    fn add(&mut self, window: Window) {
        if self.staged.is_empty() {
            return;
        }
        let next = self.spare.pop().unwrap_or_default();
        let amounts = std::mem::replace(&mut self.staged, next);
        // Nearly always the last one. Where several sources report on one timeline, their windows may come
        // out of order.
        let at = self.first_after(window.end);
        self.amounts += amounts.len();
        self.windows.insert(at, UsageWindow { window, amounts });
        self.end = Some(self.end.map_or(window.end, |e| e.max(window.end)));
    }

    /// Index of the first window that ends after `time`. Windows of a millisecond are remembered by the
    /// thousand, and an energy window needs few of them.
    fn first_after(&self, time: Timestamp) -> usize {
        self.windows.partition_point(|usage| usage.window.end <= time)
    }

    /// Up to when usage is known; `None` before the first window.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// Calls `each` with every amount used in `window` at `location` (`None`: anywhere), cut to the part that
    /// lies in `window`. Returns how many nanoseconds of `window` usage covers.
    pub(crate) fn within(
        &self,
        window: Window,
        location: Option<u32>,
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
            for used in usage.amounts.iter().filter(|u| location.is_none_or(|l| l == u.location)) {
                let amount = if part == whole {
                    used.amount
                } else {
                    (u128::from(used.amount) * u128::from(part) / u128::from(whole)) as u64
                };
                if amount > 0 {
                    each(used.user, used.quantity, amount);
                }
            }
        }
        covered.min(window.nanos())
    }

    /// Forgets the windows that end at or before `needed`.
    fn forget(&mut self, needed: Timestamp) {
        while let Some(first) = self.windows.front()
            && first.window.end <= needed
        {
            if let Some(mut usage) = self.windows.pop_front() {
                self.amounts -= usage.amounts.len();
                usage.amounts.clear();
                if self.spare.len() < MOST_SPARE {
                    self.spare.push(usage.amounts);
                }
            }
        }
    }

    /// Makes what the consumers used for whom `has_ended` holds that of nobody known.
    fn forget_users(&mut self, has_ended: &dyn Fn(usize) -> bool) {
        for UsageWindow { amounts, .. } in &mut self.windows {
            let mut unknown: Vec<UsedAmount> = Vec::new();
            amounts.retain(|used| match used.user {
                User::Thread(slot) => !has_ended(slot as usize),
                User::Consumer(slot) if has_ended(slot as usize) => {
                    let of = |other: &&mut UsedAmount| {
                        (other.location, other.quantity) == (used.location, used.quantity)
                    };
                    match unknown.iter_mut().find(of) {
                        Some(sum) => sum.amount += used.amount,
                        None => unknown.push(UsedAmount { user: User::Unattributed, ..*used }),
                    }
                    false
                }
                User::Idle | User::Unattributed | User::Consumer(_) => true,
            });
            amounts.append(&mut unknown);
            amounts.shrink_to_fit();
        }
        self.amounts = self.windows.iter().map(|usage| usage.amounts.len()).sum();
        self.spare.clear();
    }

    /// When the oldest window ends.
    fn first_end(&self) -> Option<Timestamp> {
        self.windows.front().map(|usage| usage.window.end)
    }

    /// From when on usage is remembered.
    fn start(&self) -> Option<Timestamp> {
        self.windows.front().map(|usage| usage.window.start)
    }
}

/// All timelines.
#[derive(Debug)]
pub(crate) struct Timelines {
    all: Vec<Timeline>,
    devices: FxHashMap<Resource, usize>,
}

/// Numbers of the timelines of packages and of cores. Those of devices are higher.
pub(crate) const PACKAGES: usize = 0;
pub(crate) const CORES: usize = 1;

impl Default for Timelines {
    fn default() -> Self {
        Self { all: vec![Timeline::default(), Timeline::default()], devices: FxHashMap::default() }
    }
}

impl Timelines {
    /// The number of the timeline of `device`, which is created if it is new.
    pub(crate) fn of_device(&mut self, device: &Resource) -> usize {
        if let Some(&number) = self.devices.get(device) {
            return number;
        }
        self.all.push(Timeline::default());
        self.devices.insert(device.clone(), self.all.len() - 1);
        self.all.len() - 1
    }

    /// The usage that a domain's energy follows.
    pub(crate) fn followed(&mut self, follows: &Follows) -> Followed {
        let on = |timeline, location| Followed { timeline, location, members: None };
        match follows {
            Follows::Cpus => on(PACKAGES, None),
            Follows::Package(package) => on(PACKAGES, Some(*package)),
            Follows::Core(cpu) => on(CORES, Some(*cpu)),
            Follows::Device(device) => on(self.of_device(device), None),
            Follows::Members(package, members) => {
                Followed { members: Some(members.clone()), ..on(PACKAGES, Some(*package)) }
            }
        }
    }

    pub(crate) fn get(&self, number: usize) -> &Timeline {
        &self.all[number]
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> &mut Timeline {
        &mut self.all[number]
    }

    /// Adds what was staged, on every timeline, as the usage of `window`.
    pub(crate) fn add(&mut self, window: Window) {
        self.all.iter_mut().for_each(|timeline| timeline.add(window));
    }

    /// Up to when usage is known on any timeline.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.all.iter().filter_map(Timeline::end).max()
    }

    /// Forgets windows that end at or before `needed`, those older than `history`, and the oldest beyond the
    /// bound.
    pub(crate) fn forget(&mut self, needed: Timestamp, history: Duration) {
        let history = u64::try_from(history.as_nanos()).unwrap_or(u64::MAX);
        let oldest = Timestamp(self.end().unwrap_or_default().0.saturating_sub(history));
        self.all.iter_mut().for_each(|timeline| timeline.forget(needed.max(oldest)));
        while self.amounts() > MOST_AMOUNTS
            && let Some(first) = self.all.iter().filter_map(Timeline::first_end).min()
        {
            self.all.iter_mut().for_each(|timeline| timeline.forget(first));
        }
    }

    /// How many amounts are remembered.
    pub(crate) fn amounts(&self) -> usize {
        self.all.iter().map(|timeline| timeline.amounts).sum()
    }

    /// Makes what the consumers used for whom `has_ended` holds that of nobody known.
    pub(crate) fn forget_users(&mut self, has_ended: &dyn Fn(usize) -> bool) {
        self.all.iter_mut().for_each(|timeline| timeline.forget_users(has_ended));
    }

    /// From when on usage is remembered on any timeline.
    pub(crate) fn start(&self) -> Option<Timestamp> {
        self.all.iter().filter_map(Timeline::start).min()
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
        let packages = timelines.get_mut(PACKAGES);
        let of = |slot, location, amount| UsedAmount {
            user: User::Consumer(slot),
            location,
            quantity: Quantity::Time,
            amount,
        };
        packages.stage(of(1, 0, 80));
        packages.stage(of(2, 1, 50));
        packages.add(window(0, 100));
        packages.stage(of(1, 0, 40));
        packages.add(window(100, 200));
        timelines
    }

    fn within(usage: &Timeline, w: Window, package: Option<u32>) -> (u64, Vec<(User, u64)>) {
        let mut seen = Vec::new();
        let covered = usage.within(w, package, |user, _, ns| seen.push((user, ns)));
        (covered, seen)
    }

    #[test]
    fn a_window_gets_the_part_that_it_overlaps_on_its_package() {
        let timelines = timelines();
        let usage = timelines.get(PACKAGES);
        let (one, two) = (User::Consumer(1), User::Consumer(2));
        assert_eq!(within(usage, window(50, 150), Some(0)), (100, vec![(one, 40), (one, 20)]));
        assert_eq!(within(usage, window(0, 100), Some(1)), (100, vec![(two, 50)]));
        assert_eq!(within(usage, window(0, 200), None).1.iter().map(|u| u.1).sum::<u64>(), 170);
        assert_eq!(within(usage, window(150, 250), None), (50, vec![(one, 20)]), "half is not covered");
    }

    #[test]
    fn an_amount_takes_24_bytes_and_of_too_many_the_oldest_windows_are_forgotten() {
        assert_eq!(size_of::<UsedAmount>(), 24);
        let mut timelines = Timelines::default();
        let used = UsedAmount { user: User::Idle, location: 0, quantity: Quantity::Time, amount: 1 };
        for second in 0..10 {
            (0..MOST_AMOUNTS / 4).for_each(|_| timelines.get_mut(PACKAGES).stage(used));
            timelines.add(window(second, second + 1));
            timelines.forget(Timestamp(0), Duration::from_secs(1));
        }
        assert_eq!((timelines.amounts(), timelines.start()), (MOST_AMOUNTS, Some(Timestamp(6))));
    }

    #[test]
    fn what_ended_consumers_used_becomes_that_of_nobody_known() {
        let mut timelines = timelines();
        timelines.forget_users(&|slot| slot == 1);
        let usage = timelines.get(PACKAGES);
        let all = within(usage, window(0, 200), None).1;
        assert_eq!(all, vec![(User::Consumer(2), 50), (User::Unattributed, 80), (User::Unattributed, 40)]);
        assert_eq!(timelines.amounts(), 3);
    }

    #[test]
    fn windows_that_are_not_needed_or_too_old_are_forgotten() {
        let mut usage = timelines();
        usage.forget(Timestamp(99), Duration::from_secs(1));
        assert_eq!(usage.start(), Some(Timestamp(0)));
        usage.forget(Timestamp(100), Duration::from_secs(1));
        assert_eq!(usage.start(), Some(Timestamp(100)));
        // A device's usage is as old as the newest usage on any timeline makes it.
        let gpu = usage.of_device(&Resource::gpu("x".into()));
        assert_eq!(usage.followed(&Follows::Device(Resource::gpu("x".into()))).timeline, gpu);
        let used = UsedAmount { user: User::Idle, location: 0, quantity: Quantity::Time, amount: 1 };
        usage.get_mut(gpu).stage(used);
        usage.add(window(200, 2000));
        usage.forget(Timestamp(0), Duration::from_nanos(1000));
        assert_eq!((usage.start(), usage.end()), (Some(Timestamp(200)), Some(Timestamp(2000))));
        assert_eq!(usage.get(PACKAGES).start(), None);
    }
}
