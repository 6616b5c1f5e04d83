//! The threads of a process in its details: what each used of the process's energy. Where the agent counts
//! threads, that is attributed like a process's; elsewhere the process's joules are divided by the threads'
//! time on CPUs, which the kernel knows anyway, and the heading says so.

use std::collections::HashMap;

use ratatui::text::Span;
use wattrace_viewer::{Consumer, Kind, Model};

use crate::app::App;
use crate::facts::{ProcessFacts, ThreadFacts};
use crate::text::{cut, energy, left, right};

/// A heading, and a line for each of the threads that used most, in at most `most` lines.
pub(crate) fn lines<'a>(
    app: &App,
    process: &Consumer,
    kernel: &ProcessFacts,
    most: usize,
    width: usize,
) -> Vec<Vec<Span<'a>>> {
    let threads = &kernel.threads;
    let running = threads.iter().filter(|thread| thread.state == 'R').count();
    let joules = Joules::new(app.shown(), process, kernel);
    let heading = format!("{}, {running} running{}", threads.len(), joules.note());
    let mut lines = vec![vec![Span::styled(left("threads", 11), app.theme.quiet()), Span::raw(heading)]];
    // One thread is the process.
    if threads.len() > 1 {
        let mut order: Vec<&ThreadFacts> = threads.iter().collect();
        order.sort_by_key(|thread| (std::cmp::Reverse(thread.cpu_nanos), thread.id));
        for thread in order {
            let joules = joules.of(thread).map_or(String::new(), energy);
            let seconds = format!("{:.1} s", thread.cpu_nanos as f64 / 1e9);
            let name: String = thread.name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            lines.push(vec![
                Span::styled(right(&thread.id.to_string(), 9), app.theme.quiet()),
                Span::raw(format!(" {} {}{}  ", thread.state, right(&joules, 9), right(&seconds, 11))),
                Span::raw(cut(&name, width.saturating_sub(33))),
            ]);
        }
    }
    lines.truncate(most.max(1));
    lines
}

/// Whose joules are known how.
enum Joules {
    /// By thread id, in microjoules.
    Attributed(HashMap<u32, u64>),
    /// Microjoules of the process for a nanosecond on a CPU.
    Divided(f64),
    Unknown,
}

impl Joules {
    fn new(model: &Model, process: &Consumer, kernel: &ProcessFacts) -> Self {
        let threads: HashMap<u32, u64> = (model.consumers().map(|(_, consumer)| consumer))
            .filter(|c| c.kind() == Kind::Thread)
            .filter(|c| c.attributes().get("process.pid").is_some_and(|pid| pid == process.id()))
            .filter_map(|c| Some((c.id().parse().ok()?, model.microjoules_of(c))))
            .collect();
        let microjoules = model.microjoules_of(process);
        // Threads that have ended are in the process's time.
        let living: u64 = kernel.threads.iter().map(|thread| thread.cpu_nanos).sum();
        match (threads.is_empty(), kernel.cpu_nanos.max(living)) {
            (false, _) => Self::Attributed(threads),
            (true, nanos @ 1..) if microjoules > 0 => Self::Divided(microjoules as f64 / nanos as f64),
            _ => Self::Unknown,
        }
    }

    fn note(&self) -> &'static str {
        match self {
            Self::Divided(_) => "; joules divided by CPU time",
            Self::Attributed(_) | Self::Unknown => "",
        }
    }

    /// Of a thread, J.
    fn of(&self, thread: &ThreadFacts) -> Option<f64> {
        match self {
            Self::Attributed(all) => all.get(&thread.id).map(|microjoules| *microjoules as f64 / 1e6),
            Self::Divided(each) => Some(each * thread.cpu_nanos as f64 / 1e6),
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattrace_viewer::testing::Machine;

    fn thread(id: u32, cpu_nanos: u64) -> ThreadFacts {
        ThreadFacts { id, name: "worker".to_owned(), state: 'S', cpu_nanos }
    }

    #[test]
    fn the_joules_of_a_process_are_divided_by_the_time_of_all_its_threads() {
        let mut machine = Machine::office();
        machine.run(4);
        let model = machine.model();
        let (_, process) = model.consumers().find(|(_, c)| c.id() == "5120").unwrap();
        let joules = model.microjoules_of(process) as f64 / 1e6;
        // Of four seconds one was of threads that have ended.
        let threads = vec![thread(1, 2_000_000_000), thread(2, 1_000_000_000), thread(3, 0)];
        let kernel = ProcessFacts { threads, cpu_nanos: 4_000_000_000, span: None };
        let divided = Joules::new(model, process, &kernel);
        let of: Vec<f64> = kernel.threads.iter().map(|thread| divided.of(thread).unwrap()).collect();
        assert!((of[0] - joules / 2.0).abs() < 1e-9 && (of[1] - joules / 4.0).abs() < 1e-9, "{of:?}");
        assert_eq!((of[2], divided.note()), (0.0, "; joules divided by CPU time"));
        let nothing = Joules::new(model, process, &ProcessFacts::default());
        assert_eq!(nothing.of(&thread(1, 5)), None);
    }
}
