//! The end of a frame: increments become power, processes are added to their programs and trees, and what has
//! ended is forgotten.

use super::consumer::Consumer;
use super::domain::Domain;
use super::state::{Clock, Model};
use crate::kind::Kind;

/// After so many frames, a consumer that was not described again since a reset has ended meanwhile, or
/// sleeps.
const UNCLAIMED_FRAMES: u32 = 60;

/// What a process adds to its program or its tree.
struct Increment {
    domain: u16,
    /// Microjoules that it has not been given yet,
    total: u64,
    /// and those of this frame.
    pending: u64,
}

impl Model {
    /// Ends the frame if the windows that are known span an interval. Returns whether it did.
    pub(super) fn end_frame_if_due(&mut self) -> bool {
        // Without usage there are meters alone.
        let newest = if self.newest > 0 { self.newest } else { return false };
        // Ticks are a little early or late.
        let due = self.interval - self.interval / 8;
        if newest.saturating_sub(self.frame_end) < due {
            return false;
        }
        let begin = self.begin;
        for domain in &mut self.domains {
            self.is_unknown |= !domain.count_undivided(|start| start >= begin);
        }
        let is_unknown = std::mem::take(&mut self.is_unknown);
        self.frame_end = newest;
        if self.frame == 0 && is_unknown {
            // Part of what ran is only known from here on.
            self.skip_frame();
            return false;
        }
        self.end_frame();
        true
    }

    /// Takes what was counted so far as the reference of the first frame.
    fn skip_frame(&mut self) {
        self.domains.iter_mut().for_each(Domain::skip_frame);
        for index in std::mem::take(&mut self.active) {
            self.add_to_groups(index as usize, true);
            if let Some(consumer) = self.consumers.get_mut(index as usize) {
                consumer.is_active = false;
                (consumer.cpu_pending, consumer.gpu_pending) = (0, 0);
                consumer.parts.iter_mut().for_each(|part| part.pending = 0);
            }
        }
        (self.cpu.before, self.gpu.before) = (self.cpu.newest, self.gpu.newest);
        self.forget_ended();
    }

    fn end_frame(&mut self) {
        self.frame += 1;
        self.forget_ended();
        let frame = self.frame;
        let scales: Vec<_> = self.domains.iter_mut().map(|domain| domain.end_frame(frame)).collect();
        self.history.push(frame, self.watts() as f32);
        let span = |clock: &mut Clock| {
            let nanos = clock.newest.saturating_sub(clock.before);
            clock.before = clock.newest;
            if nanos == 0 { 0.0 } else { 1.0 / nanos as f64 }
        };
        let per_nano = [span(&mut self.cpu), span(&mut self.gpu)];
        // Programs and trees join the list behind the processes.
        let mut next = 0;
        while let Some(&index) = self.active.get(next) {
            self.add_to_groups(index as usize, false);
            next += 1;
        }
        for index in std::mem::take(&mut self.active) {
            let Some(consumer) = self.consumers.get_mut(index as usize) else { continue };
            end_frame_of(consumer, frame, &scales, per_nano);
            let watts = self.consumers.get(index as usize).map_or(0.0, |consumer| self.watts_of(consumer));
            if let Some(consumer) = self.consumers.get_mut(index as usize) {
                consumer.history.push(frame, watts as f32);
            }
        }
        self.forget_groups();
        if !self.unclaimed.is_empty() && frame.is_multiple_of(UNCLAIMED_FRAMES) {
            for (_, index) in std::mem::take(&mut self.unclaimed) {
                self.end_consumer(index);
            }
        }
    }

    /// Adds what a process used to its program and its tree. `is_reference`: not as a part of this frame.
    fn add_to_groups(&mut self, index: usize, is_reference: bool) {
        let Some(process) = self.consumers.get_mut(index) else { return };
        if process.kind != Kind::Process {
            return;
        }
        let groups = [process.program, process.tree];
        let (cpu, gpu) = (process.cpu_pending, process.gpu_pending);
        let increments: Vec<_> = process
            .parts
            .iter_mut()
            .filter_map(|part| {
                let total = part.microjoules - std::mem::replace(&mut part.grouped, part.microjoules);
                let (domain, pending) = (part.domain, if is_reference { 0 } else { part.pending });
                (total > 0).then_some(Increment { domain, total, pending })
            })
            .collect();
        let nanos = process.cpu_nanos.saturating_sub(process.cpu_grouped);
        process.cpu_grouped += nanos;
        for group in groups.into_iter().flatten() {
            let Some(consumer) = self.consumers.get_mut(group) else { continue };
            for increment in &increments {
                let part = consumer.part(increment.domain);
                consumer.parts[part].microjoules += increment.total;
                consumer.parts[part].pending += increment.pending;
            }
            consumer.cpu_nanos += nanos;
            if !is_reference {
                consumer.cpu_pending += cpu;
                consumer.gpu_pending += gpu;
                consumer.activate(group, &mut self.active);
            }
        }
    }

    /// Forgets the consumers that had ended before this frame. What they used stays with their programs, and
    /// is part of the rest of processes.
    fn forget_ended(&mut self) {
        let (gone, still): (Vec<u32>, Vec<u32>) = std::mem::take(&mut self.ended)
            .into_iter()
            .partition(|index| self.consumers.get(*index as usize).is_none_or(|c| !c.is_active));
        self.ended = still;
        for index in gone {
            self.end_consumer(index as usize);
        }
    }

    fn end_consumer(&mut self, index: usize) {
        // It may have been described again, or be forgotten already.
        if self.consumers.get(index).is_none_or(|consumer| consumer.series > 0) {
            return;
        }
        let consumer = self.consumers.remove(index);
        self.leave_program(&consumer);
        self.leave_tree(&consumer);
        self.by_number.remove(&consumer.number);
    }
}

/// From a consumer's increments to its power.
fn end_frame_of(consumer: &mut Consumer, frame: u32, scales: &[Option<f64>], per_nano: [f64; 2]) {
    consumer.is_active = false;
    consumer.frame = frame;
    consumer.cpus = (std::mem::take(&mut consumer.cpu_pending) as f64 * per_nano[0]) as f32;
    consumer.gpus = (std::mem::take(&mut consumer.gpu_pending) as f64 * per_nano[1]) as f32;
    for part in &mut consumer.parts {
        if let Some(Some(scale)) = scales.get(usize::from(part.domain)) {
            part.watts = (std::mem::take(&mut part.pending) as f64 * scale) as f32;
            part.frame = frame;
        }
    }
}
