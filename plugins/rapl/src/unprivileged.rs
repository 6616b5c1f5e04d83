//! Lets tests that root runs see what an unprivileged user sees.

/// Runs `f` on a thread with the permissions of user 65534.
pub(crate) fn as_unprivileged_user(f: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: plain numbers. The raw call, unlike libc's wrapper, changes the calling thread only.
            let dropped = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) } == 0;
            // If the call is refused, the test is not run by root in the first place.
            // SAFETY: no arguments.
            assert!(dropped || unsafe { libc::geteuid() } != 0);
            f();
        });
        thread.join().unwrap();
    });
}
