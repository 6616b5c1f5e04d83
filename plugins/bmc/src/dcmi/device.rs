//! Sends commands to the BMC through the kernel's `/dev/ipmi0`. Tests have a device of their own.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use wattrace_api::Error;

/// The longest wait for a reply; the driver repeats a command for about as long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Something that answers IPMI commands.
pub(crate) trait Device: Send {
    /// Sends a command; puts the reply, from the completion code on, into `reply` and returns its length, at
    /// most that of `reply`.
    fn request(&mut self, function: u8, command: u8, data: &[u8], reply: &mut [u8]) -> io::Result<usize>;
}

/// The kernel's device.
pub(crate) struct Kernel {
    file: File,
    /// The number of the last request, so that a late reply is not taken for that of the next one.
    last: libc::c_long,
}

// As in the kernel's linux/ipmi.h.
const SYSTEM_INTERFACE: i32 = 0x0c;
const BMC_CHANNEL: i16 = 0x0f;
const RESPONSE: i32 = 1;
const MAGIC: u32 = b'i' as u32;
const SEND_COMMAND: libc::Ioctl = libc::_IOR::<Request>(MAGIC, 13);
const RECEIVE_TRUNCATED: libc::Ioctl = libc::_IOWR::<Received>(MAGIC, 11);

#[repr(C)]
#[derive(Default)]
struct Address {
    kind: i32,
    channel: i16,
    lun: u8,
}

#[repr(C)]
struct Message {
    function: u8,
    command: u8,
    length: u16,
    data: *mut u8,
}

#[repr(C)]
struct Request {
    address: *mut Address,
    address_length: u32,
    id: libc::c_long,
    message: Message,
}

#[repr(C)]
struct Received {
    kind: i32,
    address: *mut AnyAddress,
    address_length: u32,
    id: libc::c_long,
    message: Message,
}

/// Room for any kind of address, `struct ipmi_addr`.
#[repr(C, align(8))]
struct AnyAddress([u8; 40]);

impl Kernel {
    /// Opens the device. If there is none, or it may not be opened, that is a state.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty()).map(File::from).map_err(io::Error::from);
        let is_device = |file: &File| file.metadata().map(|meta| meta.file_type().is_char_device());
        let opened = opened.and_then(|file| match is_device(&file)? {
            true => Ok(Self { file, last: 0 }),
            false => Err(io::Error::new(ErrorKind::InvalidInput, "it is no character device")),
        });
        opened.map_err(|e| unavailable(path, &e))
    }

    fn send(&mut self, function: u8, command: u8, data: &[u8]) -> io::Result<libc::c_long> {
        self.last = self.last.wrapping_add(1);
        let mut address = Address { kind: SYSTEM_INTERFACE, channel: BMC_CHANNEL, lun: 0 };
        let mut data = data.to_vec();
        let length = u16::try_from(data.len()).map_err(|_| ErrorKind::InvalidInput)?;
        let mut request = Request {
            address: &raw mut address,
            address_length: size_of::<Address>() as u32,
            id: self.last,
            message: Message { function, command, length, data: data.as_mut_ptr() },
        };
        // SAFETY: the descriptor is open, and all that `request` points to lives until the call returns; the
        // kernel copies it.
        match unsafe { libc::ioctl(self.file.as_raw_fd(), SEND_COMMAND, &raw mut request) } {
            0 => Ok(self.last),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&timeout))? {
            0 => Err(ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }

    /// Takes one message out of the queue. Returns the number of the request that it answers, and its length.
    fn receive(&self, reply: &mut [u8]) -> io::Result<(Option<libc::c_long>, usize)> {
        let mut address = AnyAddress([0; 40]);
        let room = u16::try_from(reply.len()).unwrap_or(u16::MAX);
        let mut received = Received {
            kind: 0,
            address: &raw mut address,
            address_length: size_of::<AnyAddress>() as u32,
            id: 0,
            message: Message { function: 0, command: 0, length: room, data: reply.as_mut_ptr() },
        };
        // SAFETY: the descriptor is open; `received` points to memory that is valid for the lengths it names,
        // which the kernel does not exceed: it truncates.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), RECEIVE_TRUNCATED, &raw mut received) } != 0 {
            let error = io::Error::last_os_error();
            // The message was truncated; what fits is there.
            if Errno::from_io_error(&error) != Some(Errno::MSGSIZE) {
                return Err(error);
            }
        }
        let answers = (received.kind == RESPONSE).then_some(received.id);
        Ok((answers, usize::from(received.message.length).min(reply.len())))
    }
}

impl Device for Kernel {
    fn request(&mut self, function: u8, command: u8, data: &[u8], reply: &mut [u8]) -> io::Result<usize> {
        let until = Instant::now() + TIMEOUT;
        let id = self.send(function, command, data)?;
        loop {
            match self.wait(until).and_then(|()| self.receive(reply)) {
                Ok((Some(answers), length)) if answers == id => return Ok(length),
                // A late reply to an earlier request, or an event.
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn unavailable(path: &Path, e: &io::Error) -> Error {
    let path = path.display();
    let remedy = match e.kind() {
        ErrorKind::NotFound => {
            "if this machine has a BMC, `sudo modprobe -a ipmi_devintf ipmi_si` (ipmi_ssif on Arm) gives it"
        }
        ErrorKind::PermissionDenied => "run the agent as root, or give its user the device (a udev rule)",
        _ => "`sudo dmesg | grep -i ipmi` shows whether the BMC works",
    };
    let why = format!("plugins.bmc.device: {path}: {e}; {remedy}");
    if e.kind() == ErrorKind::PermissionDenied { Error::denied(why) } else { Error::gone(why) }
}

/// Opens the kernel's device at `path`, each time it is called.
pub(crate) fn kernel(path: PathBuf) -> impl FnMut() -> Result<Box<dyn Device>, Error> + Send {
    move || Ok(Box::new(Kernel::open(&path)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the kernel's header on 64-bit x86 and Arm.
    #[cfg(all(target_pointer_width = "64", any(target_arch = "x86_64", target_arch = "aarch64")))]
    #[test]
    fn the_layout_matches_the_kernel() {
        assert_eq!((size_of::<Address>(), size_of::<Message>()), (8, 16));
        assert_eq!((size_of::<Request>(), size_of::<Received>()), (40, 48));
        assert_eq!(SEND_COMMAND as u32, 0x8028_690d);
        assert_eq!(RECEIVE_TRUNCATED as u32, 0xc030_690b);
    }

    #[test]
    fn a_missing_device_is_a_state_with_a_remedy() {
        let error = Kernel::open(Path::new("/nonexistent/ipmi0")).err().unwrap();
        assert_eq!(error.kind(), wattrace_api::ErrorKind::Gone);
        assert!(
            error.to_string().contains("/nonexistent/ipmi0") && error.to_string().contains("modprobe"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_a_bmc_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let (file, fifo) = (directory.path().join("file"), directory.path().join("fifo"));
        std::fs::write(&file, "").unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RUSR).unwrap();
        for path in [file, fifo] {
            let error = Kernel::open(&path).err().unwrap();
            assert_eq!(error.kind(), wattrace_api::ErrorKind::Gone);
            assert!(error.to_string().contains("it is no character device"), "{error}");
        }
        let mut device = Kernel::open(Path::new("/dev/null")).unwrap();
        let error = device.request(0x2c, 2, &[0xdc], &mut [0; 32]).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::NOTTY));
    }
}
