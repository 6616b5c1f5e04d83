//! Until when the books of each domain are closed: the energy of a process that ended before is known. It
//! shows in the points that attribution adds for each closed window.

use std::sync::Arc;

use slab::Slab;
use wattrace_api::{Domain, Timestamp};

/// The books of one domain.
#[derive(Debug)]
struct Book {
    domain: Arc<Domain>,
    closed_to: Timestamp,
    /// Meters that count it now. Without one no further window comes.
    meters: u32,
    /// Series that refer to it.
    series: u32,
}

/// The books of all domains.
#[derive(Debug, Default)]
pub(crate) struct Books(Slab<Book>);

/// How a series refers to a book.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BookRef {
    book: usize,
    is_meter: bool,
}

impl Books {
    /// A series of `domain` has begun: a meter, or one that has a point for every closed window.
    pub(crate) fn acquire(&mut self, domain: &Arc<Domain>, is_meter: bool) -> BookRef {
        let known = self.0.iter().find(|(_, book)| book.domain.name == domain.name);
        let book = known.map(|(at, _)| at).unwrap_or_else(|| {
            let domain = domain.clone();
            self.0.insert(Book { domain, closed_to: Timestamp(0), meters: 0, series: 0 })
        });
        self.0[book].series += 1;
        self.0[book].meters += u32::from(is_meter);
        BookRef { book, is_meter }
    }

    /// The series has ended.
    pub(crate) fn release(&mut self, BookRef { book, is_meter }: BookRef) {
        let Some(entry) = self.0.get_mut(book) else { return };
        entry.meters -= u32::from(is_meter);
        entry.series -= 1;
        if entry.series == 0 {
            self.0.remove(book);
        }
    }

    /// A window that ends at `end` has been closed, if the series says so.
    pub(crate) fn close(&mut self, series: BookRef, end: Timestamp) {
        if let Some(book) = self.0.get_mut(series.book).filter(|_| !series.is_meter) {
            book.closed_to = book.closed_to.max(end);
        }
    }

    /// All books are closed to this time.
    pub(crate) fn closed_to(&self) -> Timestamp {
        let metered = self.0.iter().filter(|(_, book)| book.meters > 0);
        metered.map(|(_, book)| book.closed_to).min().unwrap_or(Timestamp(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::{Follows, Origin};

    use super::*;

    fn domain(name: &str) -> Arc<Domain> {
        let (name, origin, follows) = (name.to_owned(), Origin::Simulated, Follows::Cpus);
        Arc::new(Domain { name, origin, follows, within: None, idle_microwatts: None })
    }

    #[test]
    fn the_slowest_meter_decides_until_it_is_gone() {
        let mut books = Books::default();
        assert_eq!(books.closed_to(), Timestamp(u64::MAX), "there is no energy to wait for");
        let (fast, slow) = (books.acquire(&domain("fast"), true), books.acquire(&domain("slow"), true));
        assert_eq!(books.closed_to(), Timestamp(0));
        let closings = ["fast", "slow"].map(|name| books.acquire(&domain(name), false));
        books.close(closings[0], Timestamp(30));
        books.close(closings[1], Timestamp(10));
        assert_eq!(books.closed_to(), Timestamp(10));
        books.close(fast, Timestamp(99));
        books.close(closings[1], Timestamp(5));
        assert_eq!(books.closed_to(), Timestamp(10), "a reading closes nothing, and time does not go back");
        books.release(slow);
        assert_eq!(books.closed_to(), Timestamp(30));
        closings.into_iter().chain([fast]).for_each(|series| books.release(series));
        assert_eq!((books.closed_to(), books.0.len()), (Timestamp(u64::MAX), 0));
    }
}
