//! Parses `/proc/PID/fdinfo/FD`, which describes one client of a GPU. The keys are documented in the kernel's
//! `Documentation/gpu/drm-usage-stats.rst`. Other keys and malformed lines are ignored.

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
    /// Bytes that it holds in the GPU's memory, or in the system's memory if the GPU has none of its own.
    pub memory: u64,
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

/// Memory, added up while parsing.
#[derive(Default)]
struct Memory {
    local: u64,
    others: u64,
    has_local: bool,
    is_resident: bool,
}

/// Parses `text`. `None`: it is not a client of a GPU. Engines that the driver counts in cycles are put into
/// `cycles`, which is emptied first.
pub fn parse<'a>(text: &'a str, cycles: &mut Vec<Cycles<'a>>) -> Option<Fdinfo<'a>> {
    cycles.clear();
    let mut found = Fdinfo::default();
    let (mut client, mut memory) = (None, Memory::default());
    for line in text.lines() {
        let Some((key, value)) = line.strip_prefix("drm-").and_then(|line| line.split_once(':')) else {
            continue;
        };
        let value = value.trim();
        match key {
            "driver" => found.driver = value,
            "pdev" => found.address = value,
            "client-id" => client = value.parse().ok(),
            _ => {
                let Some(number) = number(value) else { continue };
                if key.starts_with("engine-capacity-") {
                    // The number of engines with this name. The driver has added up their times already.
                } else if key.starts_with("engine-") {
                    found.nanos = Some(found.nanos.unwrap_or(0).saturating_add(number));
                } else if let Some(name) = key.strip_prefix("cycles-") {
                    engine(cycles, name).busy = number;
                } else if let Some(name) = key.strip_prefix("total-cycles-") {
                    engine(cycles, name).total = number;
                } else if let Some(region) = key.strip_prefix("resident-") {
                    memory.add(region, number, true);
                } else if let Some(region) = key.strip_prefix("memory-") {
                    memory.add(region, number, false);
                }
            }
        }
    }
    cycles.retain(|engine| engine.total > 0);
    if found.nanos.is_some() {
        // If the driver counts both time and cycles, time is used.
        cycles.clear();
    }
    found.client = client?;
    found.memory = if memory.has_local { memory.local } else { memory.others };
    Some(found)
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
        let local = region.starts_with("vram") || region.starts_with("local");
        self.has_local |= local;
        let sum = if local { &mut self.local } else { &mut self.others };
        *sum = sum.saturating_add(bytes);
    }
}

/// A whole number with a unit, converted to nanoseconds or bytes; or without a unit.
fn number(value: &str) -> Option<u64> {
    let mut words = value.split_ascii_whitespace();
    let number: u64 = words.next()?.parse().ok()?;
    let factor = match words.next() {
        None | Some("ns") | Some("B") | Some("bytes") => 1,
        Some("KiB") => 1 << 10,
        Some("MiB") => 1 << 20,
        Some("GiB") => 1 << 30,
        Some(_) => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMDGPU: &str = "pos:\t0\nflags:\t02100002\nmnt_id:\t24\nino:\t1240\ndrm-driver:\tamdgpu\n\
        drm-client-id:\t51\ndrm-pdev:\t0000:03:00.0\npasid:\t32791\ndrm-total-cpu:\t0\n\
        drm-resident-vram:\t10240 KiB\ndrm-memory-vram:\t10240 KiB\ndrm-memory-gtt: \t2048 KiB\n\
        drm-engine-gfx:\t5000000 ns\ndrm-engine-compute:\t700 ns\ndrm-engine-capacity-enc:\t2\n";

    const XE: &str = "drm-driver:\txe\ndrm-client-id:\t3\ndrm-pdev:\t0000:03:00.0\ndrm-total-gtt:\t192 KiB\n\
        drm-resident-gtt:\t192 KiB\ndrm-resident-vram0:\t3 MiB\ndrm-cycles-rcs:\t28257900\n\
        drm-total-cycles-rcs:\t7655183225\ndrm-cycles-vcs:\t5\ndrm-total-cycles-vcs:\t7655183225\n\
        drm-engine-capacity-vcs:\t2\n";

    fn parsed(text: &str) -> Option<(Fdinfo<'_>, Vec<Cycles<'_>>)> {
        let mut cycles = Vec::new();
        parse(text, &mut cycles).map(|found| (found, cycles))
    }

    #[test]
    fn amdgpu_counts_time_and_its_memory_counts_once() {
        let (found, cycles) = parsed(AMDGPU).unwrap();
        let nanos = Some(5_000_700);
        let (driver, address) = ("amdgpu", "0000:03:00.0");
        assert_eq!(found, Fdinfo { driver, address, client: 51, nanos, memory: 10 << 20 });
        assert!(cycles.is_empty());
    }

    #[test]
    fn xe_counts_cycles() {
        let (found, cycles) = parsed(XE).unwrap();
        assert_eq!((found.client, found.nanos, found.memory), (3, None, 3 << 20));
        let total = 7_655_183_225;
        assert_eq!(
            cycles,
            [Cycles { name: "rcs", busy: 28_257_900, total }, Cycles { name: "vcs", busy: 5, total },]
        );
    }

    #[test]
    fn a_gpu_without_memory_of_its_own_uses_system_memory() {
        let text = "drm-driver: i915\ndrm-client-id: 7\ndrm-pdev: 0000:00:02.0\ndrm-resident-system0: 4096\n\
            drm-engine-render: 9288864723 ns\ndrm-engine-copy: 2035071108 ns\n";
        let (found, _) = parsed(text).unwrap();
        assert_eq!((found.memory, found.nanos), (4_096, Some(11_323_935_831)));
    }

    #[test]
    fn other_files_are_no_client_and_malformed_lines_are_ignored() {
        assert!(parsed("pos:\t0\nflags:\t02\n").is_none());
        assert!(parsed("").is_none());
        assert!(parsed("drm-driver: amdgpu\ndrm-client-id: x\n").is_none());
        let text = "drm-client-id: 1\ndrm-engine-gfx: -5 ns\ndrm-engine-a: 5 parsecs\ndrm-engine-b:\n\
            drm-engine-c: 18446744073709551615 ns\ndrm-engine-d: 7 ns\ndrm-memory-vram: 99999999999999 GiB\n\
            drm-cycles-rcs: 7\ndrm-:\ndrm\n";
        let (found, cycles) = parsed(text).unwrap();
        assert_eq!((found.nanos, found.memory, cycles.len()), (Some(u64::MAX), 0, 0));
    }
}
