//! Time in interrupts, told apart from the task they interrupt. It is summed up while the slice runs and
//! taken out of it when it is charged. Interrupts nest in each other, hard ones in soft ones, and what counts
//! is the outermost.
//!
//! On a real-time kernel soft interrupts run in tasks, which may be switched; there only hard ones are told
//! apart (`plugins/sched` attaches no others).

use wattrace_common::ledger::Cpu;

use crate::clock;
use crate::ledger::this_cpu;
use crate::maps::SEPARATE_IRQ;

/// An interrupt begins.
#[inline(always)]
pub fn enter() {
    let Some((_, ledger)) = this_cpu() else { return };
    if ledger.irq_depth == 0 {
        ledger.irq_start_ns = clock::now();
    }
    ledger.irq_depth += 1;
}

/// An interrupt ends. The beginning of the first may have been before we looked.
#[inline(always)]
pub fn exit() {
    let Some((_, ledger)) = this_cpu() else { return };
    if ledger.irq_depth == 0 {
        return;
    }
    ledger.irq_depth -= 1;
    if ledger.irq_depth == 0 {
        ledger.irq_pending_ns += clock::now().saturating_sub(ledger.irq_start_ns);
    }
}

/// The slice is cut at `now`, perhaps in the midst of an interrupt.
#[inline(always)]
pub fn interrupt(ledger: &mut Cpu, now: u64) {
    if SEPARATE_IRQ.load() != 0 && ledger.irq_depth != 0 {
        ledger.irq_pending_ns += now.saturating_sub(ledger.irq_start_ns);
        ledger.irq_start_ns = now;
    }
}

/// At a context switch there is no interrupt: if one seems to go on, its end was missed.
#[inline(always)]
pub fn leave_all(ledger: &mut Cpu, now: u64) {
    if SEPARATE_IRQ.load() != 0 && ledger.irq_depth != 0 {
        interrupt(ledger, now);
        ledger.irq_depth = 0;
    }
}

/// Charges the interrupts of a slice of `ns`; returns what is left of it. The two are timed by clocks that
/// may differ by some hundred nanoseconds, so what a slice has no room for waits for the next.
#[inline(always)]
pub fn charge(ledger: &mut Cpu, ns: u64) -> u64 {
    if SEPARATE_IRQ.load() == 0 {
        return ns;
    }
    let irq = ledger.irq_pending_ns.min(ns);
    ledger.irq_pending_ns -= irq;
    ledger.open.irq_ns += irq;
    ns - irq
}
