//! The management library, loaded and initialised, and the devices that it showed at that moment. The library
//! shows a device that is added or comes back to a new session only.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nvml_wrapper::bitmasks::InitFlags;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use wattrace_api::{Error, Origin};

use crate::origin;
use crate::sleep;

/// Counts sessions.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// An initialised library. Dropping it shuts the library down.
pub(crate) struct Session {
    nvml: Nvml,
    devices: Vec<DeviceEntry>,
    /// Whether its numbers are measured.
    pub(crate) origin: Origin,
    /// How many devices it counts, those included that did not answer; `None`: some were left alone.
    counted: Option<u32>,
    /// Differs from that of every other session.
    id: u64,
    /// The names of devices about which the library knows nothing else.
    pub(crate) nameless: Vec<String>,
}

/// A device that answered.
struct DeviceEntry {
    uuid: String,
    name: String,
    address: Option<String>,
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
    /// Its address in sysfs, if it is on the PCI bus.
    pub(crate) address: Option<&'a str>,
}

impl Session {
    /// Loads and initialises the library named `library`. With `only`, all devices but those at these
    /// addresses are left alone.
    ///
    /// # Errors
    /// Gone, with the remedy, if there is none or no driver behind it.
    pub(crate) fn open(library: &str, only: Option<&[String]>) -> Result<Self, Error> {
        let flags = if only.is_some() { InitFlags::NO_ATTACH } else { InitFlags::empty() };
        let nvml =
            Nvml::builder().lib_path(OsStr::new(library)).flags(flags).init().map_err(|e| {
                Error::gone(format!("plugins.nvidia.library: {library}: {e}; {}", remedy(&e)))
            })?;
        let version = nvml.sys_driver_version().unwrap_or_default();
        let origin = origin::of(library, &version, &origin::kernel_module());
        let id = OPENED.fetch_add(1, Relaxed);
        let (devices, nameless) = (Vec::new(), Vec::new());
        let mut session = Self { nvml, devices, origin, counted: None, id, nameless };
        match only {
            Some(addresses) => {
                for address in addresses {
                    session.add(|nvml| nvml.device_by_pci_bus_id(address.as_str()));
                }
            }
            None => {
                let counted = session.nvml.device_count().map_err(|e| {
                    let remedy = "look at `nvidia-smi` and `dmesg`";
                    Error::gone(format!("{library}: cannot count devices: {e}; {remedy}"))
                })?;
                session.counted = Some(counted);
                for index in 0..counted {
                    session.add(|nvml| nvml.device_by_index(index));
                }
            }
        }
        Ok(session)
    }

    fn add<'a>(&'a mut self, find: impl FnOnce(&'a Nvml) -> Result<Device<'a>, NvmlError>) {
        match find(&self.nvml).map(|device| DeviceEntry::new(&device)) {
            Ok(Ok(entry)) => self.devices.push(entry),
            Ok(Err(Some(name))) => self.nameless.push(name),
            Ok(Err(None)) => tracing::debug!("a GPU does not answer"),
            Err(e) => tracing::debug!("a GPU does not answer: {e}"),
        }
    }

    /// The library.
    pub(crate) fn nvml(&self) -> &Nvml {
        &self.nvml
    }

    /// Differs from that of every other session.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The devices that answered.
    pub(crate) fn devices(&self) -> impl Iterator<Item = ShownDevice<'_>> {
        self.devices.iter().enumerate().map(|(at, device)| ShownDevice {
            index: DeviceIndex(at),
            uuid: &device.uuid,
            name: &device.name,
            address: device.address.as_deref(),
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
        let Some(before) = self.counted else { return false };
        let counted = self.nvml.device_count().unwrap_or(before);
        usize::try_from(counted).is_ok_and(|counted| counted != self.devices.len() + self.nameless.len())
    }
}

impl DeviceEntry {
    /// An entry that can be read; else the name of a device that the library knows nothing else about.
    fn new(device: &Device<'_>) -> Result<Self, Option<String>> {
        let name = device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned());
        let uuid = match device.uuid() {
            Ok(uuid) => uuid,
            Err(e) if is_unsupported(&e) => return Err(Some(name)),
            Err(_) => return Err(None),
        };
        let address = device.pci_info().ok().and_then(|pci| sleep::address(&pci.bus_id));
        // SAFETY: it is kept with its `Nvml` and used with no other.
        let handle = Handle(unsafe { device.handle() });
        Ok(Self { uuid, name, address, handle })
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
