//! Why the kernel programs could not be set up or used.

use std::io;

use aya::maps::MapError;
use aya::maps::perf::PerfBufferError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;
use aya::sys::SyscallError;
use aya::{BtfError, EbpfError};
use wattrace_api::Error;

use super::btf;

/// A step that failed, or something that is missing.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A requirement is not met.
    #[error("{what} is required, but found: {found}. Remedy: {remedy}")]
    Requirement {
        /// What is required.
        what: String,
        /// What was found.
        found: String,
        /// What to do.
        remedy: String,
    },
    /// A permission is missing, and nothing else.
    #[error("no {what} ({found}): {remedy}")]
    Denied {
        /// Which one.
        what: String,
        /// What was found.
        found: String,
        /// The command that gives it.
        remedy: String,
    },
    /// Something failed that should work on a system that meets the requirements.
    #[error("cannot {step} (`wattrace doctor` checks what is needed)")]
    Failed {
        /// The step, as it follows "cannot".
        step: String,
        /// Why.
        #[source]
        source: Box<Cause>,
    },
}

impl KernelError {
    /// The message with those of its causes, for a log.
    pub(crate) fn with_causes(&self) -> String {
        let causes = std::iter::successors(std::error::Error::source(self), |cause| cause.source());
        causes.fold(self.to_string(), |message, cause| format!("{message}: {cause}"))
    }

    /// The error of a source that cannot open.
    pub(crate) fn into_error(self) -> Error {
        if matches!(self, KernelError::Denied { .. }) { Error::denied(self) } else { Error::fatal(self) }
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A system call.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The eBPF object.
    #[error(transparent)]
    Object(#[from] EbpfError),
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The attachment of a program.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A map.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A perf buffer.
    #[error(transparent)]
    PerfBuffer(#[from] PerfBufferError),
    /// A `bpf` system call.
    #[error(transparent)]
    Syscall(#[from] SyscallError),
    /// The kernel's type information, as aya reads it.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The kernel's type information, as we read it.
    #[error(transparent)]
    Offsets(#[from] btf::BtfError),
    /// Something was not found.
    #[error("{0}")]
    NotFound(String),
}

/// Turns the cause of a failure into the error of `step`, which follows "cannot" in the message.
pub(super) fn failed<E: Into<Cause>>(step: impl Into<String>) -> impl FnOnce(E) -> KernelError {
    let step = step.into();
    move |cause| {
        let cause = cause.into();
        if reads_are_forbidden(&cause) {
            return KernelError::Requirement {
                what: "kernel memory that programs may read".into(),
                found: format!(
                    "the kernel forbids it (in the step: {step}), as lockdown=confidentiality does"
                ),
                remedy: "boot with lockdown=integrity on the kernel's command line".into(),
            };
        }
        if is_out_of_descriptors(&cause) {
            return KernelError::Requirement {
                what: "a higher limit on open files".into(),
                found: format!("Too many open files (in the step: {step})"),
                remedy: "`ulimit -n 1024` in the shell, LimitNOFILE=1024 in a unit, or `--ulimit \
                         nofile=1024` of a container"
                    .into(),
            };
        }
        KernelError::Failed { step, source: Box::new(cause) }
    }
}

/// Whether this process may not open more files.
fn is_out_of_descriptors(cause: &Cause) -> bool {
    let first: &dyn std::error::Error = cause;
    std::iter::successors(Some(first), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .any(|error| error.raw_os_error() == Some(libc::EMFILE))
}

/// Whether the verifier refused a program because of the helpers that read the kernel's memory: under
/// lockdown it does not know them. `requirements.rs` sees the lockdown itself where securityfs is mounted.
fn reads_are_forbidden(cause: &Cause) -> bool {
    let (Cause::Program(error) | Cause::Object(EbpfError::ProgramError(error))) = cause else { return false };
    let ProgramError::LoadError { verifier_log, .. } = error else { return false };
    names_a_forbidden_read(&verifier_log.to_string())
}

fn names_a_forbidden_read(verifier_log: &str) -> bool {
    verifier_log.lines().any(|line| {
        let is_refusal = line.contains("cannot use helper") || line.contains("unknown func");
        is_refusal && line.contains("bpf_probe_read")
    })
}

/// The error of `step`: `what` was not found.
pub(super) fn not_found(step: impl Into<String>, what: impl Into<String>) -> KernelError {
    KernelError::Failed { step: step.into(), source: Box::new(Cause::NotFound(what.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_that_cannot_be_created_says_why_and_a_limit_how_to_raise_it() {
        let message = |errno| {
            let io_error = io::Error::from_raw_os_error(errno);
            let map = MapError::CreateError { name: "ENTRIES".into(), io_error };
            let error = failed("load the eBPF object")(EbpfError::MapError(map));
            wattrace_api::Error::fatal(error).to_string()
        };
        let limited = message(libc::EMFILE);
        for part in ["Too many open files", "load the eBPF object", "ulimit -n 1024", "LimitNOFILE"] {
            assert!(limited.contains(part), "{limited}");
        }
        let other = message(libc::ENOMEM);
        assert!(other.contains("Cannot allocate memory") && !other.contains("ulimit"), "{other}");
        let attach = ProgramError::SyscallError(SyscallError {
            call: "bpf_raw_tracepoint_open",
            io_error: io::Error::from_raw_os_error(libc::EMFILE),
        });
        let attach = failed("attach program sched_switch")(attach).to_string();
        assert!(attach.contains("a higher limit on open files is required"), "{attach}");
    }

    #[test]
    fn a_refusal_to_read_kernel_memory_is_recognised() {
        for log in [
            "program of this type cannot use helper bpf_probe_read_kernel#113",
            "0: R1=ctx\nunknown func bpf_probe_read_kernel#113\nprocessed 3 insns",
        ] {
            assert!(names_a_forbidden_read(log), "{log}");
        }
        assert!(!names_a_forbidden_read(
            "R0 invalid mem access 'scalar'\n(85) call bpf_probe_read_kernel#113"
        ));
    }

    #[test]
    fn a_failure_has_the_step_and_every_cause_in_its_message() {
        let denied = ProgramError::SyscallError(SyscallError {
            call: "bpf_raw_tracepoint_open",
            io_error: io::Error::from_raw_os_error(libc::EPERM),
        });
        let error = failed("attach program sched_switch")(denied);
        assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<Box<Cause>>()));
        let message = wattrace_api::Error::fatal(error).to_string();
        for part in ["cannot attach program sched_switch", "wattrace doctor", "bpf_raw_tracepoint_open"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(message.contains("Operation not permitted"), "{message}");
    }
}
