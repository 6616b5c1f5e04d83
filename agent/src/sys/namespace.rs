//! The pid of a process in the initial PID namespace, by which the kernel programs know it. In any other
//! namespace (a container's), a program of three instructions reports which pid its caller has there.

use std::io;

use wattrace_bpf::{Instruction, Program};

/// `r0 = bpf_get_current_pid_tgid(); r0 >>= 32; exit`
const PID_OF_CALLER: [Instruction; 3] =
    [Instruction::new(0x85, 14), Instruction::new(0x77, 32), Instruction::new(0x95, 0)];

/// A loaded program that returns the pid of the process that runs it.
pub(crate) struct PidProgram(Program);

impl PidProgram {
    /// Loads it.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn load() -> io::Result<Self> {
        Program::load(&PID_OF_CALLER).map(Self)
    }

    /// The pid of the calling process in the initial namespace. Makes one system call and allocates nothing.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn pid_of_caller(&self) -> io::Result<u32> {
        self.0.run()
    }
}

#[cfg(test)]
mod tests {
    use wattrace_procfs::namespace::pids_are_private;

    use super::*;

    #[test]
    fn the_program_returns_the_pid_of_the_initial_namespace() {
        if !rustix::process::geteuid().is_root() || pids_are_private() {
            return eprintln!("skipped: it needs root, in the initial PID namespace");
        }
        let program = PidProgram::load().unwrap();
        assert_eq!(program.pid_of_caller().unwrap(), std::process::id());
    }
}
