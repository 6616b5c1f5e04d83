//! `/dev/cpu/N/msr`: one CPU's registers as a file, eight bytes each at the register's address.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use wattrace_api::Origin;
use wattrace_meter::sysfs::open_device;

/// The kernel's major number of these devices.
const MSR_MAJOR: u32 = 202;

/// The registers of one CPU.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
}

/// The device file of `cpu`.
pub(crate) fn path(dev_root: &Path, cpu: u32) -> PathBuf {
    dev_root.join(format!("cpu/{cpu}/msr"))
}

impl Device {
    /// Opens the registers of `cpu`.
    pub(crate) fn open(dev_root: &Path, cpu: u32) -> io::Result<Self> {
        Ok(Self { file: open_device(&path(dev_root, cpu))? })
    }

    /// The register's 64 bits. A register that the CPU does not have is an error.
    pub(crate) fn read(&self, register: u32) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, register.into())?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// `measured` for the kernel's device, `simulated` for any other file.
    pub(crate) fn origin(&self) -> Origin {
        let major = |device: u64| rustix::fs::major(device);
        let real = self
            .file
            .metadata()
            .is_ok_and(|m| m.file_type().is_char_device() && major(m.rdev()) == MSR_MAJOR);
        if real { Origin::Measured } else { Origin::Simulated }
    }
}
