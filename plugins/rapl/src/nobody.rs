//! For tests of what an unprivileged user meets, when they are run by root.

/// Runs `f` on a thread that may do no more than user 65534, whoever runs the test.
pub(crate) fn as_nobody(f: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: plain numbers. The raw call, unlike libc's wrapper, changes the calling thread only.
            let dropped = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) } == 0;
            // Where it may not change, the test isn't run by root in the first place.
            // SAFETY: no arguments.
            assert!(dropped || unsafe { libc::geteuid() } != 0);
            f();
        });
        thread.join().unwrap();
    });
}
