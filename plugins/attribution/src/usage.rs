//! Recent usage, window by window: what `account.rs` reads an energy window's weights from.
//!
//! Within a window usage is taken to be even, so that a cumulative curve of straight pieces results, whose value at any
//! edge of an energy window is known and whose integral is the usage itself.

use std::collections::VecDeque;
use std::time::Duration;

use wattrace_api::{Timestamp, Window};

/// Who used CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// Nobody.
    Idle,
    /// Somebody unknown.
    Unattributed,
    /// The consumer in this slot.
    Consumer(usize),
}

/// CPU time that `user` used on `package`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use {
    pub(crate) user: User,
    pub(crate) package: u32,
    pub(crate) ns: u64,
}

#[derive(Debug, Default)]
struct UsageWindow {
    window: Window,
    uses: Vec<Use>,
}

/// The windows not yet used up by every domain, in order of time.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    windows: VecDeque<UsageWindow>,
    spare: Vec<Vec<Use>>,
    end: Option<Timestamp>,
}

impl Usage {
    /// Takes in the uses of `window`.
    pub(crate) fn add(&mut self, window: Window, uses: impl Iterator<Item = Use>) {
        let mut list = self.spare.pop().unwrap_or_default();
        list.extend(uses);
        self.windows.push_back(UsageWindow { window, uses: list });
        self.end = Some(self.end.map_or(window.end, |e| e.max(window.end)));
    }

    /// Up to when usage is known; `None` before the first window.
    pub(crate) fn end(&self) -> Option<Timestamp> {
        self.end
    }

    /// Calls `each` with every use that falls into `window` on `package` (`None`: on any), cut to the part that does.
    /// Returns how many nanoseconds of `window` are covered by usage.
    pub(crate) fn within(
        &self,
        window: Window,
        package: Option<u32>,
        mut each: impl FnMut(User, u64),
    ) -> u64 {
        let mut covered = 0;
        for usage in &self.windows {
            let start = usage.window.start.max(window.start);
            let end = usage.window.end.min(window.end);
            let (part, whole) = (Window::new(start, end).nanos(), usage.window.nanos());
            if part == 0 {
                continue;
            }
            covered += part;
            for usage in usage.uses.iter().filter(|u| package.is_none_or(|p| p == u.package)) {
                let ns = if part == whole {
                    usage.ns
                } else {
                    (u128::from(usage.ns) * u128::from(part) / u128::from(whole)) as u64
                };
                if ns > 0 {
                    each(usage.user, ns);
                }
            }
        }
        covered.min(window.nanos())
    }

    /// Forgets what nobody needs: windows that end at or before `needed`, and those older than `history`.
    pub(crate) fn forget(&mut self, needed: Timestamp, history: Duration) {
        let Some(end) = self.end else { return };
        let oldest = Timestamp(end.0.saturating_sub(u64::try_from(history.as_nanos()).unwrap_or(u64::MAX)));
        while let Some(first) = self.windows.front()
            && (first.window.end <= needed || first.window.end <= oldest)
        {
            if let Some(mut used) = self.windows.pop_front() {
                used.uses.clear();
                self.spare.push(used.uses);
            }
        }
    }

    /// Where remembered usage begins; `None` if nothing is remembered.
    pub(crate) fn start(&self) -> Option<Timestamp> {
        self.windows.front().map(|w| w.window.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: u64, end: u64) -> Window {
        Window::new(Timestamp(start), Timestamp(end))
    }

    fn usage() -> Usage {
        let mut usage = Usage::default();
        let of = |slot, package, ns| Use { user: User::Consumer(slot), package, ns };
        usage.add(window(0, 100), [of(1, 0, 80), of(2, 1, 50)].into_iter());
        usage.add(window(100, 200), [of(1, 0, 40)].into_iter());
        usage
    }

    fn within(usage: &Usage, w: Window, package: Option<u32>) -> (u64, Vec<(User, u64)>) {
        let mut seen = Vec::new();
        let covered = usage.within(w, package, |user, ns| seen.push((user, ns)));
        (covered, seen)
    }

    #[test]
    fn a_window_takes_the_part_that_it_overlaps_on_its_package() {
        let usage = usage();
        let (one, two) = (User::Consumer(1), User::Consumer(2));
        assert_eq!(within(&usage, window(50, 150), Some(0)), (100, vec![(one, 40), (one, 20)]));
        assert_eq!(within(&usage, window(0, 100), Some(1)), (100, vec![(two, 50)]));
        assert_eq!(within(&usage, window(0, 200), None).1.iter().map(|u| u.1).sum::<u64>(), 170);
        assert_eq!(within(&usage, window(150, 250), None), (50, vec![(one, 20)]), "half is not covered");
    }

    #[test]
    fn what_is_used_up_or_too_old_is_forgotten() {
        let mut usage = usage();
        usage.forget(Timestamp(99), Duration::from_secs(1));
        assert_eq!(usage.start(), Some(Timestamp(0)));
        usage.forget(Timestamp(100), Duration::from_secs(1));
        assert_eq!(usage.start(), Some(Timestamp(100)));
        usage.add(window(200, 2000), std::iter::empty());
        usage.forget(Timestamp(0), Duration::from_nanos(1000));
        assert_eq!(usage.start(), Some(Timestamp(200)));
        assert_eq!(usage.end(), Some(Timestamp(2000)));
    }
}
