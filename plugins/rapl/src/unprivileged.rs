//! Lets tests that root runs see what an unprivileged user sees.

use rustix::process::{Uid, geteuid};
use rustix::thread::set_thread_res_uid;

/// Runs `f` on a thread with the permissions of user 65534.
pub(crate) fn as_unprivileged_user(f: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let nobody = Uid::from_raw(65534);
            let dropped = set_thread_res_uid(nobody, nobody, nobody).is_ok();
            // If the call is refused, the test is not run by root in the first place.
            assert!(dropped || !geteuid().is_root());
            f();
        });
        thread.join().unwrap();
    });
}
