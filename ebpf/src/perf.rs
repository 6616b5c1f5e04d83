//! Reading a perf event that user space has put into a map.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::{BPF_F_CURRENT_CPU, bpf_perf_event_value};
use aya_ebpf::helpers::bpf_perf_event_read_value;
use aya_ebpf::maps::PerfEventArray;
use wattrace_common::counters::CounterValue;

/// The value of this CPU's event in `events`; zeros if there is none.
#[inline(always)]
pub fn read(events: &'static PerfEventArray<u64>) -> CounterValue {
    // The helper fills it in any case: with zeros on error.
    let mut value = MaybeUninit::<CounterValue>::uninit();
    // SAFETY: the kernel takes the address of a map's definition for the map, which the verifier checks.
    // `CounterValue` has the layout of what the helper writes.
    unsafe {
        bpf_perf_event_read_value(
            (&raw const *events).cast_mut().cast::<c_void>(),
            BPF_F_CURRENT_CPU,
            value.as_mut_ptr().cast::<bpf_perf_event_value>(),
            size_of::<bpf_perf_event_value>() as u32,
        );
        value.assume_init()
    }
}
