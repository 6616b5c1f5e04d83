//! Time in interrupts, accounted separately from the task that they interrupt. It is summed while the slice
//! runs, and subtracted from the slice when that is charged. Interrupts nest, hard ones in soft ones; the
//! outermost counts.
//!
//! On a real-time kernel soft interrupts run in tasks, which can be switched. `plugins/sched` then attaches
//! only to the tracepoints of hard interrupts.

use wattrace_common::ledger::Cpu;

use crate::clock;
use crate::cpu::this_cpu;
use crate::maps::SEPARATE_IRQ;

/// An interrupt begins.
#[inline(always)]
pub fn enter() {
    let Some((_, ledger)) = this_cpu() else { return };
    if ledger.irq_depth.get() == 0 {
        ledger.irq_start_ns.set(clock::now());
    }
    ledger.irq_depth.set(ledger.irq_depth.get() + 1);
}

/// An interrupt ends. The first one may have begun before the programs were attached.
#[inline(always)]
pub fn exit() {
    let Some((_, ledger)) = this_cpu() else { return };
    let depth = ledger.irq_depth.get();
    if depth == 0 {
        return;
    }
    ledger.irq_depth.set(depth - 1);
    if depth == 1 {
        add_pending(ledger, clock::now());
    }
}

/// Ends the slice at `now`, possibly in the middle of an interrupt, which continues in the next slice.
#[inline(always)]
pub fn split_at(ledger: &Cpu, now: u64) {
    if SEPARATE_IRQ.load() != 0 && ledger.irq_depth.get() != 0 {
        add_pending(ledger, now);
        ledger.irq_start_ns.set(now);
    }
}

/// At a context switch no interrupt is running. If one seems to, its end was missed.
#[inline(always)]
pub fn end_all(ledger: &Cpu, now: u64) {
    if SEPARATE_IRQ.load() != 0 && ledger.irq_depth.get() != 0 {
        add_pending(ledger, now);
        ledger.irq_depth.set(0);
    }
}

/// Charges the interrupts of a slice of `ns`, and returns the rest of the slice. The two are timed by clocks
/// that may differ by some hundred nanoseconds, so what exceeds the slice is left for the next one.
#[inline(always)]
pub fn charge(ledger: &Cpu, ns: u64) -> u64 {
    if SEPARATE_IRQ.load() == 0 {
        return ns;
    }
    let irq = ledger.irq_pending_ns.get().min(ns);
    ledger.irq_pending_ns.set(ledger.irq_pending_ns.get() - irq);
    let mut page = ledger.open.get();
    page.irq_ns += irq;
    ledger.open.set(page);
    ns - irq
}

#[inline(always)]
fn add_pending(ledger: &Cpu, now: u64) {
    let ran = now.saturating_sub(ledger.irq_start_ns.get());
    ledger.irq_pending_ns.set(ledger.irq_pending_ns.get() + ran);
}
