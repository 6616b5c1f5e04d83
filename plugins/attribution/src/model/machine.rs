//! Which machine this is, for the state file: what was learnt on one machine says nothing about another that
//! shares the home directory, or was cloned from its image.

use std::path::Path;

use wattrace_api::files;

/// About 1.5 kB of it are read for each CPU.
const MAX_CPUINFO: u64 = 16 << 20;

/// A number of this machine, in hexadecimal: of its machine id, its CPU's model and its CPUs. The machine id
/// cannot be computed from it: it is confidential.
pub(super) fn key() -> String {
    let text = |path: &str, limit| files::read_text(Path::new(path), limit).unwrap_or_default();
    let [id, present] = ["/etc/machine-id", "/sys/devices/system/cpu/present"].map(|path| text(path, 4096));
    key_of(&id, &text("/proc/cpuinfo", MAX_CPUINFO), &present)
}

fn key_of(machine_id: &str, cpuinfo: &str, cpus: &str) -> String {
    // x86 has a name of the model, ARM a number of the part.
    let model = cpuinfo.lines().find(|line| ["model name", "CPU part"].iter().any(|m| line.starts_with(m)));
    let parts = [machine_id.trim(), model.unwrap_or_default(), cpus.trim()];
    // FNV-1a, since the hashes of the standard library may change with its version.
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_id_another_model_or_another_number_of_cpus_is_another_machine() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU\nprocessor\t: 1\nmodel name\t: Some CPU\n";
        let this = key_of("abc\n", cpuinfo, "0-1\n");
        assert_eq!(this, key_of("abc", &cpuinfo.replace("processor\t: 1", "cpu MHz\t: 1"), "0-1"));
        assert_ne!(this, key_of("abd\n", cpuinfo, "0-1\n"));
        assert_ne!(this, key_of("abc\n", &cpuinfo.replace("Some", "Other"), "0-1\n"));
        assert_ne!(this, key_of("abc\n", cpuinfo, "0-3\n"));
        assert_ne!(this, key_of("abc\n", "CPU part\t: 0xd0c\n", "0-1\n"));
        assert_eq!(key().len(), 16);
    }
}
