//! The tracepoints between which an interrupt runs.

/// Generic handlers of devices.
const HARD: [&str; 1] = ["irq_handler"];
/// On a real-time kernel these run in tasks, and are those tasks' time.
const SOFT: [&str; 1] = ["softirq"];
/// The vectors of x86 that no generic handler serves, and the inter-processor interrupts of arm64.
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

/// Names to which `_entry` and `_exit` are to be added, and whether every kernel has them.
pub(super) fn pairs(realtime: bool) -> impl Iterator<Item = (&'static str, bool)> {
    let soft = SOFT.into_iter().filter(move |_| !realtime);
    let always = HARD.into_iter().chain(soft).map(|name| (name, true));
    always.chain(VECTORS.into_iter().map(|name| (name, false)))
}
