//! Makes a loader that has not read the kernel's types.
//!
//! aya reads and parses all of them when a loader is made, whether or not it is given others later
//! (aya-rs/aya#1172): a third of the time that opening takes, and most of its peak of memory. They are read
//! from a file, and where that cannot be opened the loader does without. So it is made on a thread that may
//! open no files. From 0.16 on, which needs a newer rustc, aya reads them on demand.

use std::io;
use std::thread;

use aya::EbpfLoader;
use tracing::debug;

/// A new loader without types.
pub(super) fn new() -> EbpfLoader<'static> {
    let made = thread::Builder::new().name("wattrace-loader".to_owned()).spawn(without_files);
    let made = made.and_then(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))));
    let mut loader = made.unwrap_or_else(|error| {
        debug!("the loader reads the kernel's types: {error}");
        EbpfLoader::new()
    });
    loader.btf(None);
    loader
}

fn without_files() -> io::Result<EbpfLoader<'static>> {
    forbid_opening_files()?;
    Ok(EbpfLoader::new())
}

/// Makes every attempt of this thread to open a file fail, without a way back.
fn forbid_opening_files() -> io::Result<()> {
    // The number of the system call is at the beginning of the filter's input.
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let filter = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        filter(LOAD, 0, 0, 0),
        filter(JUMP_IF_EQUAL, libc::SYS_openat as u32, 0, 1),
        filter(RETURN, libc::SECCOMP_RET_ERRNO | libc::EACCES as u32, 0, 0),
        filter(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: plain numbers. It concerns this thread alone, and lets it install a filter without privileges.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the program and its instructions outlive the call, which copies them.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_has_no_types_and_other_threads_open_files() {
        let loader = thread::spawn(without_files).join().unwrap().unwrap();
        assert!(format!("{loader:?}").starts_with("EbpfLoader { btf: None,"), "{loader:?}");
        std::fs::read("/proc/self/stat").unwrap();
    }
}
