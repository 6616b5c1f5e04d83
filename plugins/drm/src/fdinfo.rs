//! Parses `/proc/PID/fdinfo/FD`, which describes one client of a GPU. The keys are documented in the kernel's
//! `Documentation/gpu/drm-usage-stats.rst`. Other keys and malformed lines are ignored. amdgpu of the kernels
//! 5.14 to 5.18 has keys of its own, from before that document.

/// A client of a GPU at one reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fdinfo<'a> {
    /// `drm-driver`.
    pub driver: &'a str,
    /// `drm-pdev`: the GPU's bus address; empty if its bus has no addresses.
    pub address: &'a str,
    /// `drm-client-id`: the same for all descriptors of one client of that GPU.
    pub client: u64,
    /// Nanoseconds that all engines worked for it, added up (`drm-engine-*`); `None` if the driver does not
    /// say.
    pub nanos: Option<u64>,
    /// The share of the last time that engines worked for it, added up, in hundredths of a percent. Old
    /// versions of amdgpu say only this.
    pub share: Option<u64>,
    /// The memory that it holds.
    pub memory: Memory,
}

/// Bytes of memory that a client holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In the GPU's own memory; `None`: the driver shows none.
    pub local: Option<u64>,
    /// In the system's memory, for the GPU to work with.
    pub shared: u64,
    is_resident: bool,
}

/// Cycles of the engine `name` (`drm-cycles-*`, `drm-total-cycles-*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cycles<'a> {
    /// Its name.
    pub name: &'a str,
    /// Cycles in which it worked for the client.
    pub busy: u64,
    /// All cycles.
    pub total: u64,
}

/// Parses `text`. `None`: it is not a client of a GPU. Engines that the driver counts in cycles are put into
/// `cycles`, which is emptied first.
pub fn parse<'a>(text: &'a str, cycles: &mut Vec<Cycles<'a>>) -> Option<Fdinfo<'a>> {
    cycles.clear();
    let mut found = Fdinfo::default();
    let mut client = None;
    let mut old = Fdinfo { driver: "amdgpu", ..Fdinfo::default() };
    let mut pasid = None;
    for (key, value) in text.lines().filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        let Some(key) = key.strip_prefix("drm-") else {
            old_key(key, value, &mut old, &mut pasid);
            continue;
        };
        match key {
            "driver" => found.driver = value,
            "pdev" => found.address = value,
            "client-id" => client = value.parse().ok(),
            _ => {
                let Some(number) = number(value) else {
                    continue;
                };
                if key.starts_with("engine-capacity-") {
                    // The number of engines with this name. The driver has added up their times already.
                } else if key.starts_with("engine-") {
                    found.nanos = Some(found.nanos.unwrap_or(0).saturating_add(number));
                } else if let Some(name) = key.strip_prefix("cycles-") {
                    engine(cycles, name).busy = number;
                } else if let Some(name) = key.strip_prefix("total-cycles-") {
                    engine(cycles, name).total = number;
                } else if let Some(region) = key.strip_prefix("resident-") {
                    found.memory.add(region, number, true);
                } else if let Some(region) = key.strip_prefix("memory-") {
                    found.memory.add(region, number, false);
                }
            }
        }
    }
    cycles.retain(|engine| engine.total > 0);
    if found.nanos.is_some() {
        // If the driver counts both time and cycles, time is used.
        cycles.clear();
    }
    match (client, pasid) {
        (Some(client), _) => Some(Fdinfo { client, ..found }),
        // An address space is one client's.
        (None, Some(client)) if found.driver.is_empty() && !old.address.is_empty() => {
            Some(Fdinfo { client, ..old })
        }
        _ => None,
    }
}

/// Takes a line as amdgpu wrote it before the keys were agreed on: `pdev`, `pasid`, `vram mem`, and engines
/// like `gfx0: 73.25%`. Of these, later versions write `pasid`, too.
fn old_key<'a>(key: &'a str, value: &'a str, found: &mut Fdinfo<'a>, pasid: &mut Option<u64>) {
    match key {
        "pdev" => found.address = value,
        "pasid" => *pasid = value.parse().ok(),
        _ => {
            if let Some(share) = value.strip_suffix('%').and_then(hundredths) {
                found.share = Some(found.share.unwrap_or(0).saturating_add(share));
            } else if let Some((region, bytes)) = key.strip_suffix(" mem").zip(number(value)) {
                found.memory.add(region, bytes, true);
            }
        }
    }
}

/// `73.25` in hundredths. The kernel writes them without a leading zero: `73.5` is five hundredths.
fn hundredths(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.')?;
    let (whole, rest): (u64, u64) = (whole.parse().ok()?, rest.parse().ok()?);
    whole.checked_mul(100)?.checked_add(rest).filter(|_| rest < 100)
}

fn engine<'a, 'b>(cycles: &'b mut Vec<Cycles<'a>>, name: &'a str) -> &'b mut Cycles<'a> {
    let at = cycles.iter().position(|engine| engine.name == name).unwrap_or_else(|| {
        cycles.push(Cycles { name, ..Cycles::default() });
        cycles.len() - 1
    });
    &mut cycles[at]
}

impl Memory {
    /// `drm-memory-` is the older name of `drm-resident-`. A driver that has both shows the same memory
    /// twice.
    fn add(&mut self, region: &str, bytes: u64, resident: bool) {
        if resident && !self.is_resident {
            *self = Memory { is_resident: true, ..Memory::default() };
        }
        if resident != self.is_resident {
            return;
        }
        // amdgpu and xe call it vram, i915 local.
        if ["vram", "local", "stolen-local"].iter().any(|local| region.starts_with(local)) {
            self.local = Some(self.local.unwrap_or(0).saturating_add(bytes));
        } else if region != "cpu" {
            // amdgpu's `cpu` is what the GPU cannot work with before it is moved.
            self.shared = self.shared.saturating_add(bytes);
        }
    }

    /// The bytes that count as the client's. A GPU inside a processor works in the system's memory, also if a
    /// part of that is set aside for it; any other GPU in its own if it has some.
    pub fn bytes(&self, integrated: bool) -> u64 {
        match self.local {
            Some(local) if integrated => local.saturating_add(self.shared),
            Some(local) => local,
            None => self.shared,
        }
    }
}

/// A whole number with a unit, converted to nanoseconds or bytes; or without a unit.
fn number(value: &str) -> Option<u64> {
    let mut words = value.split_ascii_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    let factor = match words.next() {
        None | Some("ns") | Some("B") | Some("bytes") => 1,
        // The old amdgpu's kB are 1,024 bytes.
        Some("KiB") | Some("kB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        Some(_) => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests;
