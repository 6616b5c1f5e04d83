//! An allocator that counts, for tests that a tick, a batch or a point allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting what each thread asks of it.
///
/// ```
/// use wattrace_api::testing::Allocations;
///
/// #[global_allocator]
/// static ALLOCATIONS: Allocations = Allocations;
///
/// let before = Allocations::of_this_thread();
/// drop(Box::new(7));
/// assert_eq!(Allocations::of_this_thread() - before, 1);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Allocations;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

impl Allocations {
    /// How often this thread has asked for memory, or for more of it.
    pub fn of_this_thread() -> u64 {
        COUNT.get()
    }
}

fn count() {
    // A thread that is ending may have no counter any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Allocations {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}
