//! The management library, loaded and initialised, and the devices that it showed at that moment. The library
//! shows a device that is added or comes back to a new session only.

use std::ffi::OsStr;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use wattrace_api::{Error, Origin};

use crate::origin;

/// An initialised library. Dropping it shuts the library down.
pub(crate) struct Session {
    nvml: Nvml,
    devices: Vec<DeviceEntry>,
    /// Whether its numbers are measured.
    pub(crate) origin: Origin,
    /// How many devices it counts, those included that did not answer.
    counted: u32,
}

/// A device that answered.
struct DeviceEntry {
    uuid: String,
    name: String,
    handle: Handle,
}

/// From [`Device::handle`].
struct Handle(nvml_wrapper_sys::bindings::nvmlDevice_t);

// SAFETY: the handle is opaque: only the library uses it, and the library is thread-safe.
unsafe impl Send for Handle {}

/// A device's index in its session. Not valid in any other session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceIndex(usize);

/// A device that answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShownDevice<'a> {
    pub(crate) index: DeviceIndex,
    pub(crate) uuid: &'a str,
    pub(crate) name: &'a str,
}

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
        let mut devices = Vec::new();
        for index in 0..counted {
            match DeviceEntry::find(&nvml, index) {
                Ok(device) => devices.push(device),
                Err(e) => tracing::debug!(index, "a GPU does not answer: {e}"),
            }
        }
        Ok(Self { nvml, devices, origin, counted })
    }

    /// The devices that answered.
    pub(crate) fn devices(&self) -> impl Iterator<Item = ShownDevice<'_>> {
        self.devices.iter().enumerate().map(|(at, device)| ShownDevice {
            index: DeviceIndex(at),
            uuid: &device.uuid,
            name: &device.name,
        })
    }

    /// A device, to read it.
    pub(crate) fn device(&self, index: DeviceIndex) -> Option<Device<'_>> {
        let handle = self.devices.get(index.0)?.handle.0;
        // SAFETY: the handle is from `nvml`, which has not been shut down since.
        Some(unsafe { Device::new(handle, &self.nvml) })
    }

    /// Whether the library counts more or fewer devices than answered: some did not answer, or one was added.
    pub(crate) fn is_stale(&self) -> bool {
        let counted = self.nvml.device_count().unwrap_or(self.counted);
        usize::try_from(counted).is_ok_and(|counted| counted != self.devices.len())
    }
}

impl DeviceEntry {
    fn find(nvml: &Nvml, index: u32) -> Result<Self, NvmlError> {
        let device = nvml.device_by_index(index)?;
        // SAFETY: it is kept with its `Nvml` and used with no other.
        let handle = Handle(unsafe { device.handle() });
        let name = device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned());
        Ok(Self { uuid: device.uuid()?, name, handle })
    }
}

/// Whether the error means that the device is lost; else it is temporary or permanent for one function.
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

/// Whether the error means that the device does not support the function.
pub(crate) fn is_unsupported(e: &NvmlError) -> bool {
    matches!(e, NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound)
}

/// What to do about a library that cannot be initialised.
pub(crate) fn remedy(e: &NvmlError) -> &'static str {
    match e {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            "if there is an NVIDIA GPU, install the driver's libraries (Debian: sudo apt install nvidia-smi; \
             in a container: run it with the NVIDIA runtime and \
             NVIDIA_DRIVER_CAPABILITIES=utility)"
        }
        NvmlError::DriverNotLoaded => "load the driver: `sudo modprobe nvidia`",
        NvmlError::LibRmVersionMismatch => {
            "the driver was updated and the old one is still loaded: reboot, or unload it"
        }
        NvmlError::NoPermission => "give access to /dev/nvidiactl and /dev/nvidia0, …",
        _ => "look at `nvidia-smi` and `dmesg`",
    }
}
