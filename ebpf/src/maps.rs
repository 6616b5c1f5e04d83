//! The maps and globals, sized and set by user space before loading. Layout and meaning: `common/`.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, RingBuf};
use wattrace_common::{Cpu, Entry, Slot};

/// One ledger per possible CPU.
#[map]
pub static CPUS: Array<Cpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Two pages of entries per possible CPU.
#[map]
pub static ENTRIES: Array<Entry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One index per possible CPU.
#[map]
pub static INDEX: Array<Slot> = Array::with_max_entries(1, 0);

/// One element: how full the fullest page got ([`pressure`]). Set at a context switch, told by the next event.
///
/// The ring buffer must not be used at a context switch: until 6.12 its lock is one that sleeps on a real-time kernel, and the
/// scheduler holds its own.
#[map]
pub static PRESSURE: Array<u32> = Array::with_max_entries(1, 0);

/// Values of [`PRESSURE`].
pub mod pressure {
    /// There is room.
    pub const NONE: u32 = 0;
    /// A page is nearly full.
    pub const HIGH: u32 = 1;
    /// A page is full, and its overflow entry is charged.
    pub const FULL: u32 = 2;
}

/// What happened to processes. Not for use at a context switch: see [`PRESSURE`].
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(512 * 1024, 0);

macro_rules! globals {
    ($($(#[$doc:meta])* $name:ident: $value:expr;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub static $name: Global<u32> = Global::new($value);)*
    };
}

globals! {
    /// Entries on a page; a power of two.
    ENTRIES_PER_PAGE: 1;
    // Byte offsets in the running kernel's structures, from its BTF: Rust emits no CO-RE relocations.
    /// `task_struct.pid`, the thread's id.
    TASK_PID: 0;
    /// `task_struct.tgid`, the process's id.
    TASK_TGID: 0;
    /// `task_struct.start_boottime`.
    TASK_START_BOOTTIME: 0;
    /// `task_struct.group_leader`.
    TASK_GROUP_LEADER: 0;
    /// `task_struct.signal`.
    TASK_SIGNAL: 0;
    /// `task_struct.exit_code`.
    TASK_EXIT_CODE: 0;
    /// `signal_struct.live`.
    SIGNAL_LIVE: 0;
    /// `linux_binprm.filename`.
    BINPRM_FILENAME: 0;
}
