//! The offsets of the members that the kernel programs read in the running kernel's structures. They come
//! from the kernel's type information (`btf.rs`) or, if it has none, from a copy of our own `task_struct`
//! (`scan.rs`).

use super::btf::{Btf, BtfError};

/// A global of the kernel programs, and the path of members whose offsets are summed in it.
type Member = (&'static str, &'static [(&'static str, &'static str)]);

/// Accounting needs these.
const NEEDED: [Member; 7] = [
    ("TASK_PID", &[("task_struct", "pid")]),
    ("TASK_TGID", &[("task_struct", "tgid")]),
    ("TASK_GROUP_LEADER", &[("task_struct", "group_leader")]),
    ("TASK_SIGNAL", &[("task_struct", "signal")]),
    ("TASK_EXIT_CODE", &[("task_struct", "exit_code")]),
    ("SIGNAL_LIVE", &[("signal_struct", "live")]),
    ("BINPRM_FILENAME", &[("linux_binprm", "filename")]),
];
/// And one of these: `real_start_time` is what kernels before 5.5, and RHEL 8, call it.
const START: [&[Member]; 2] = [
    &[("TASK_START_BOOTTIME", &[("task_struct", "start_boottime")])],
    &[("TASK_START_BOOTTIME", &[("task_struct", "real_start_time")])],
];
/// The scheduler's clock. It cannot be reached on a kernel without group scheduling, where another clock is
/// read.
const CLOCK: &[Member] = &[
    ("TASK_CFS_RQ", &[("task_struct", "se"), ("sched_entity", "cfs_rq")]),
    ("CFS_RQ_RQ", &[("cfs_rq", "rq")]),
    ("RQ_CLOCK", &[("rq", "clock")]),
];
/// Command lines.
const ARGUMENTS: &[Member] = &[
    ("TASK_MM", &[("task_struct", "mm")]),
    ("MM_ARG_START", &[("mm_struct", "arg_start")]),
    ("MM_ARG_END", &[("mm_struct", "arg_end")]),
];
/// What a process used besides CPU time. Kernels that are built without one of these figures have none.
const PROCESS_STATS: &[Member] = &[
    ("SIGNAL_MAXRSS", &[("signal_struct", "maxrss")]),
    ("TASK_NVCSW", &[("task_struct", "nvcsw")]),
    ("TASK_NIVCSW", &[("task_struct", "nivcsw")]),
    ("TASK_MIN_FLT", &[("task_struct", "min_flt")]),
    ("TASK_MAJ_FLT", &[("task_struct", "maj_flt")]),
    ("TASK_RCHAR", &[("task_struct", "ioac"), ("task_io_accounting", "rchar")]),
    ("TASK_WCHAR", &[("task_struct", "ioac"), ("task_io_accounting", "wchar")]),
    ("TASK_READ_BYTES", &[("task_struct", "ioac"), ("task_io_accounting", "read_bytes")]),
    ("TASK_WRITE_BYTES", &[("task_struct", "ioac"), ("task_io_accounting", "write_bytes")]),
    ("TASK_CANCELLED_BYTES", &[("task_struct", "ioac"), ("task_io_accounting", "cancelled_write_bytes")]),
    ("TASK_RUN_DELAY", &[("task_struct", "sched_info"), ("sched_info", "run_delay")]),
    ("TASK_FLAGS", &[("task_struct", "flags")]),
];
/// Paths of new cgroups.
const CGROUPS: &[Member] = &[
    ("CGROUP_KN", &[("cgroup", "kn")]),
    ("CGROUP_ROOT", &[("cgroup", "root")]),
    ("KN_ID", &[("kernfs_node", "id")]),
    ("CGROUP_ROOT_HIERARCHY", &[("cgroup_root", "hierarchy_id")]),
];

/// Offsets, by the name of the global to set.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    /// Byte offsets.
    pub(super) globals: Vec<(&'static str, u32)>,
    /// Whether command lines can be read.
    pub(super) arguments: bool,
    /// Whether the paths of new cgroups can be read.
    pub(super) cgroups: bool,
    /// Whether what a process used besides CPU time can be read.
    pub(super) process_stats: bool,
}

impl Offsets {
    /// From the kernel's type information.
    ///
    /// # Errors
    /// It is malformed, or lacks a member that accounting needs.
    pub(super) fn from_btf(btf: &Btf<'_>) -> Result<Self, BtfError> {
        let groups: [&[Member]; 7] = [&NEEDED, START[0], START[1], CLOCK, ARGUMENTS, PROCESS_STATS, CGROUPS];
        let paths = groups.into_iter().flatten().flat_map(|(_, path)| path.iter());
        let structs = btf.structs(paths.map(|(name, _)| *name));
        let find = |members: &[Member]| {
            let wanted: Vec<_> = members.iter().flat_map(|(_, path)| path.iter().copied()).collect();
            let mut found = structs.offsets(&wanted)?.into_iter();
            let sum = |&(global, path): &Member| (global, found.by_ref().take(path.len()).sum());
            Ok::<Vec<(&'static str, u32)>, BtfError>(members.iter().map(sum).collect())
        };
        let mut offsets = Self { globals: find(&NEEDED)?, ..Self::default() };
        offsets.globals.extend(find(START[0]).or_else(|_| find(START[1]))?);
        // All members of a group or none: part of a path is useless.
        let mut add = |members| find(members).map(|found| offsets.globals.extend(found)).is_ok();
        add(CLOCK);
        let (arguments, cgroups) = (add(ARGUMENTS), add(CGROUPS));
        let process_stats = add(PROCESS_STATS);
        Ok(Self { arguments, cgroups, process_stats, ..offsets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_is_found_in_the_running_kernel() {
        let Ok(blob) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            return eprintln!("skipped: this kernel has no BTF");
        };
        let offsets = Offsets::from_btf(&Btf::parse(&blob).unwrap()).unwrap();
        assert!(offsets.arguments && offsets.cgroups && offsets.process_stats, "{offsets:?}");
        let of = |name: &str| offsets.globals.iter().find(|(global, _)| *global == name).unwrap().1;
        assert_eq!(of("TASK_TGID"), of("TASK_PID") + 4);
        assert!(of("TASK_CFS_RQ") > 0 && of("RQ_CLOCK") > 0);
    }
}
