//! The members of a group of processes whose energy the hardware counts apart ([`crate::Follows::Members`]).
//! The source of the meter lists them when the group has changed. Children are in their parent's group, so
//! whoever divides the energy adds those that are born in between.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ptr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::time::{Timestamp, Window};

/// A process: its pid, and its start in nanoseconds since the Unix epoch.
pub type ProcessKey = (u32, u64);

/// Children that are remembered between two listings. Of more, the energy goes to the other members.
const MOST_CHILDREN: usize = 8192;

/// The members of one group, shared by all that know it. Two are equal if they are the same group.
#[derive(Clone, Debug, Default)]
pub struct Members(Arc<RwLock<Listings>>);

#[derive(Debug, Default)]
struct Listings {
    current: Listing,
    /// Members that have left or exited count in the windows that began before.
    previous: Listing,
}

#[derive(Debug, Default)]
struct Listing {
    at: Timestamp,
    at_unix_nano: u64,
    members: HashMap<u32, Member>,
    children: usize,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// When it began; `None`: it was listed by its pid alone, and so it began before.
    start: Option<u64>,
    part: f64,
}

impl Members {
    /// Replaces the members by those of `now`, which is `unix_nano` since the Unix epoch: each with its pid
    /// and the part of its threads that are in the group, above 0 and up to 1.
    pub fn list(&self, now: Timestamp, unix_nano: u64, members: impl IntoIterator<Item = (u32, f64)>) {
        let member = |(pid, part)| (pid, Member { start: None, part });
        let members = members.into_iter().map(member).collect();
        let listing = Listing { at: now, at_unix_nano: unix_nano, members, children: 0 };
        let mut listings = self.0.write().unwrap_or_else(PoisonError::into_inner);
        listings.previous = std::mem::replace(&mut listings.current, listing);
    }

    /// Adds the children of members. `born` are processes with their parents, parents before their children.
    pub fn adopt(&self, born: &[(ProcessKey, ProcessKey)]) {
        let mut listings = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Listings { current, previous } = &mut *listings;
        for &((pid, start), parent) in born {
            let part = current.part(parent).max(previous.part(parent));
            // One that could be listed and was not has exited or left since.
            let since = if start > current.at_unix_nano { &mut *current } else { &mut *previous };
            if part > 0.0 && since.children < MOST_CHILDREN {
                since.members.insert(pid, Member { start: Some(start), part });
                since.children += 1;
            }
        }
    }

    /// How many children were added since the members were listed.
    pub fn children(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).current.children
    }

    /// Who is a member in `window`. No member is added before the value is dropped.
    pub fn during(&self, window: Window) -> MembersDuring<'_> {
        let listings = self.0.read().unwrap_or_else(PoisonError::into_inner);
        MembersDuring { began_before: window.start < listings.current.at, listings }
    }
}

/// The members of a group in one window.
#[derive(Debug)]
pub struct MembersDuring<'a> {
    listings: RwLockReadGuard<'a, Listings>,
    began_before: bool,
}

impl MembersDuring<'_> {
    /// The part of the threads of `process` that are in the group: 0 if it is not a member.
    pub fn part(&self, process: ProcessKey) -> f64 {
        let Listings { current, previous } = &*self.listings;
        let part = current.part(process);
        if part > 0.0 || !self.began_before { part } else { previous.part(process) }
    }
}

impl Listing {
    fn part(&self, (pid, start): ProcessKey) -> f64 {
        let is_it = |member: &&Member| member.start.map_or(start <= self.at_unix_nano, |own| own == start);
        self.members.get(&pid).filter(is_it).map_or(0.0, |member| member.part)
    }
}

impl PartialEq for Members {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Members {}

impl Hash for Members {
    fn hash<H: Hasher>(&self, state: &mut H) {
        ptr::hash(Arc::as_ptr(&self.0), state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: u64, end: u64) -> Window {
        Window::new(Timestamp(start), Timestamp(end))
    }

    #[test]
    fn a_listed_pid_is_the_process_that_had_it_then() {
        let members = Members::default();
        members.list(Timestamp(10), 1010, [(7, 1.0), (8, 0.25)]);
        let parts = |processes: [ProcessKey; 4]| {
            let during = members.during(window(10, 20));
            processes.map(|process| during.part(process))
        };
        assert_eq!(parts([(7, 1000), (8, 1010), (7, 1011), (9, 1000)]), [1.0, 0.25, 0.0, 0.0]);
    }

    #[test]
    fn children_are_members_and_so_are_theirs() {
        let members = Members::default();
        members.list(Timestamp(10), 1010, [(7, 0.5)]);
        let (parent, child, grandchild) = ((7, 1000), (20, 1015), (21, 1016));
        members.adopt(&[(child, parent), (grandchild, child), ((22, 1017), (9, 1000))]);
        // It was born before and is not listed: it has exited.
        members.adopt(&[((23, 1005), parent)]);
        let during = members.during(window(10, 20));
        let parts = [child, grandchild, (22, 1017), (23, 1005), (20, 1014)].map(|p| during.part(p));
        assert_eq!(parts, [0.5, 0.5, 0.0, 0.0, 0.0]);
        assert_eq!(members.during(window(5, 15)).part((23, 1005)), 0.5);
        drop(during);
        assert_eq!(members.children(), 2);
        members.list(Timestamp(20), 1020, [(7, 0.5), (20, 1.0)]);
        let parts = |at: Window| {
            let during = members.during(at);
            [child, grandchild].map(|p| during.part(p))
        };
        assert_eq!(parts(window(10, 20)), [1.0, 0.5], "the grandchild exited in this window");
        assert_eq!((parts(window(20, 30)), members.children()), ([1.0, 0.0], 0));
    }

    #[test]
    fn children_are_bounded() {
        let members = Members::default();
        members.list(Timestamp(0), 0, [(1, 1.0)]);
        let born: Vec<_> = (2..20_000).map(|pid| ((pid, 5), (1, 0))).collect();
        members.adopt(&born);
        assert_eq!(members.children(), MOST_CHILDREN);
    }

    #[test]
    fn groups_are_equal_if_they_are_the_same() {
        let (one, other) = (Members::default(), Members::default());
        assert_eq!(one, one.clone());
        assert_ne!(one, other);
    }
}
