//! The management library, loaded and initialised, and the devices that it showed at that moment. A device
//! that comes later, or comes back, is shown to a new session only.

use std::ffi::OsStr;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use wattrace_api::{Error, Origin};

use crate::config::LIBRARY;
use crate::origin;

/// An initialised library. Dropping it shuts the library down.
pub(crate) struct Session {
    nvml: Nvml,
    shown: Vec<Shown>,
    /// What its numbers are.
    pub(crate) origin: Origin,
    /// Devices that it counts, those included that did not answer.
    counted: u32,
}

/// A device that answered.
struct Shown {
    uuid: String,
    name: String,
    /// The library's own handle, from [`Device::handle`].
    handle: Handle,
}

struct Handle(nvml_wrapper_sys::bindings::nvmlDevice_t);

// SAFETY: it is a number that the library gives out and takes back, and the library is thread-safe.
unsafe impl Send for Handle {}

/// A device of a session, by its place in it. Void in every other session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

impl Session {
    /// Loads and initialises the library named `library`.
    ///
    /// # Errors
    /// Gone, with the remedy, if there is none or no driver behind it.
    pub(crate) fn open(library: &str) -> Result<Self, Error> {
        let nvml = Nvml::builder()
            .lib_path(OsStr::new(library))
            .init()
            .map_err(|e| Error::gone(format!("plugins.nvidia.library: {library}: {e}; {}", remedy(&e))))?;
        let version = nvml.sys_driver_version().unwrap_or_default();
        let origin = origin::of(library, &version, &origin::kernel_module());
        let counted = nvml.device_count().map_err(|e| {
            Error::gone(format!("{library}: cannot count devices: {e}; look at `nvidia-smi` and `dmesg`"))
        })?;
        let mut shown = Vec::new();
        for index in 0..counted {
            match Shown::find(&nvml, index) {
                Ok(device) => shown.push(device),
                Err(e) => tracing::debug!(index, "a GPU does not answer: {e}"),
            }
        }
        Ok(Self { nvml, shown, origin, counted })
    }

    /// The devices that answered: place, UUID, name.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (Place, &str, &str)> {
        self.shown.iter().enumerate().map(|(at, d)| (Place(at), &*d.uuid, &*d.name))
    }

    /// A device, to be asked.
    pub(crate) fn device(&self, place: Place) -> Option<Device<'_>> {
        let handle = self.shown.get(place.0)?.handle.0;
        // SAFETY: the handle is this library's, which has not been shut down since it gave it out: `nvml`
        // still lives.
        Some(unsafe { Device::new(handle, &self.nvml) })
    }

    /// Whether the library counts other devices than it showed: some did not answer, or one was added.
    pub(crate) fn is_stale(&self) -> bool {
        let counted = self.nvml.device_count().unwrap_or(self.counted);
        usize::try_from(counted).is_ok_and(|counted| counted != self.shown.len())
    }
}

impl Shown {
    fn find(nvml: &Nvml, index: u32) -> Result<Self, NvmlError> {
        let device = nvml.device_by_index(index)?;
        // SAFETY: it is kept beside the `Nvml` that it is of, and used with that alone.
        let handle = Handle(unsafe { device.handle() });
        let name = device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned());
        Ok(Self { uuid: device.uuid()?, name, handle })
    }
}

/// Whether a device that answers so is gone rather than in a passing trouble.
pub(crate) fn is_lost(e: &NvmlError) -> bool {
    matches!(
        e,
        NvmlError::GpuLost
            | NvmlError::ResetRequired
            | NvmlError::Uninitialized
            | NvmlError::InvalidArg
            | NvmlError::DriverNotLoaded
            | NvmlError::LibRmVersionMismatch
    )
}

/// Whether a device that answers so cannot do this at all.
pub(crate) fn is_unsupported(e: &NvmlError) -> bool {
    matches!(e, NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound)
}

/// What to do about a library that cannot be initialised.
pub(crate) fn remedy(e: &NvmlError) -> &'static str {
    match e {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            "if there is an NVIDIA GPU, install the driver's libraries (Debian: `sudo apt install nvidia-smi`; in a container: \
             run it with the NVIDIA runtime and NVIDIA_DRIVER_CAPABILITIES=utility)"
        }
        NvmlError::DriverNotLoaded => "load the driver: `sudo modprobe nvidia`",
        NvmlError::LibRmVersionMismatch => {
            "the driver was updated and the old one is still loaded: reboot, or unload it"
        }
        NvmlError::NoPermission => "give access to /dev/nvidiactl and /dev/nvidia0, …",
        _ => "look at `nvidia-smi` and `dmesg`",
    }
}

/// Whether this is the driver's library by the name under which everyone finds it.
pub(crate) fn is_standard(library: &str) -> bool {
    library == LIBRARY
}
