//! Whether a number comes from the kernel or from a stand-in: by the file system that the files read lie on.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::Path;

use wattrace_api::Origin;

/// `statfs(2)`'s number for sysfs.
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// `measured` if all of `files` lie on a real sysfs, else `simulated`.
///
/// Give it what is read itself rather than the root above it: something else may be mounted in between.
pub(crate) fn of_files<'a>(files: impl IntoIterator<Item = &'a File>) -> Origin {
    let real = files.into_iter().all(|file| file_system(file).is_ok_and(|magic| magic == SYSFS_MAGIC));
    if real { Origin::Measured } else { Origin::Simulated }
}

/// The same for a directory.
pub(crate) fn of_directory(path: &Path) -> Origin {
    File::open(path).map_or(Origin::Simulated, |directory| of_files([&directory]))
}

fn file_system(file: &File) -> io::Result<u64> {
    let mut found = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the descriptor is open for as long as `file` lives, and `found` is a valid place to write to.
    if unsafe { libc::fstatfs(file.as_raw_fd(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled the structure.
    let found = unsafe { found.assume_init() };
    Ok(found.f_type as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysfs_is_real_and_a_directory_of_anyone_s_is_not() {
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(of_directory(elsewhere.path()), Origin::Simulated);
        assert_eq!(of_directory(&elsewhere.path().join("absent")), Origin::Simulated);
        assert_eq!(of_directory(Path::new("/sys/kernel")), Origin::Measured);
        let (real, fake) = (File::open("/sys/kernel").unwrap(), File::open(elsewhere.path()).unwrap());
        assert_eq!(of_files([&real, &fake]), Origin::Simulated);
    }
}
