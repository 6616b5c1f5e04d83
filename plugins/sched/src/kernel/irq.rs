//! The tracepoints at which interrupts begin and end.

/// Device interrupts, which go through the generic handler.
const HARD: [&str; 1] = ["irq_handler"];
/// Soft interrupts. On a real-time kernel they run in tasks and are accounted as these tasks' time.
const SOFT: [&str; 1] = ["softirq"];
/// The x86 vectors that bypass the generic handler, and arm64's inter-processor interrupts.
const VECTORS: [&str; 12] = [
    "local_timer",
    "reschedule",
    "call_function",
    "call_function_single",
    "irq_work",
    "x86_platform_ipi",
    "thermal_apic",
    "threshold_apic",
    "deferred_error_apic",
    "spurious_apic",
    "error_apic",
    "ipi",
];

/// The names, without their endings `_entry` and `_exit`, and whether every kernel has them.
pub(super) fn tracepoints(is_realtime: bool) -> impl Iterator<Item = (&'static str, bool)> {
    let soft = SOFT.into_iter().filter(move |_| !is_realtime);
    let always = HARD.into_iter().chain(soft).map(|name| (name, true));
    always.chain(VECTORS.into_iter().map(|name| (name, false)))
}
