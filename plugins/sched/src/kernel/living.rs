//! Reads what living threads used besides CPU time, all in one go: an iterator of the kernel calls a program
//! for each thread (Linux 5.8), and what the program writes is read from a file, some hundred threads per
//! system call. `ebpf/src/process_stats.rs` is the program. Of exiting threads `log.rs` reads the same.

use std::io::{BufRead as _, BufReader, Read as _};

use aya::programs::Iter;
use aya::{Btf, Ebpf};
use tracing::warn;
use wattrace_common::process_stats::LivingThread;

use super::Kernel;
use super::attach::{program_mut, retry_interrupted};
use super::error::{KernelError, failed};

/// The kernel's function that the program is called from: its name in the kernel's type information.
pub(super) const TARGET: &str = "bpf_iter_task";

const PROGRAM: &str = "living_threads";

/// Read at once: as much as the kernel returns, 8 pages of 4 KiB.
const BUFFER: usize = 32 * 1024;

/// Loads the program. Returns whether that worked; without it, figures of processes come when they end.
pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf) -> bool {
    let load = |ebpf| {
        let program: &mut Iter = iterator(ebpf)?;
        retry_interrupted(|| program.load("task", btf)).map_err(failed(format!("load program {PROGRAM}")))
    };
    match load(ebpf) {
        Ok(()) => true,
        Err(error) => {
            let error = error.with_causes();
            warn!("plugins.sched.process_stats: only of processes that end, because: {error}");
            false
        }
    }
}

fn iterator(ebpf: &mut Ebpf) -> Result<&mut Iter, KernelError> {
    program_mut(ebpf, PROGRAM)?.try_into().map_err(failed(format!("use program {PROGRAM}")))
}

impl Kernel {
    /// Whether [`Kernel::living_threads`] has threads.
    pub fn lists_threads(&self) -> bool {
        self.lists_threads
    }

    /// Calls `handle` with each thread of the machine that has not begun to exit.
    ///
    /// # Errors
    /// The kernel refuses, or returns half a thread.
    pub fn living_threads(&mut self, mut handle: impl FnMut(&LivingThread)) -> Result<(), KernelError> {
        if !self.lists_threads {
            return Ok(());
        }
        let step = "read what living threads used";
        let program = iterator(&mut self.ebpf)?;
        // A file is read once.
        let link = program.attach().and_then(|id| program.take_link(id)).map_err(failed(step))?;
        let mut file = BufReader::with_capacity(BUFFER, link.into_file().map_err(failed(step))?);
        while !file.fill_buf().map_err(failed(step))?.is_empty() {
            let mut bytes = [0; size_of::<LivingThread>()];
            file.read_exact(&mut bytes).map_err(failed(step))?;
            // SAFETY: any bytes are a `LivingThread`, and there are as many as it has.
            handle(&unsafe { bytes.as_ptr().cast::<LivingThread>().read_unaligned() });
        }
        Ok(())
    }
}
