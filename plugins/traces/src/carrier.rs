//! The trace context that a process has in its environment. The kernel shows the environment with which a
//! program was executed; what the program changes itself later is not there.

use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::path::PathBuf;

use wattrace_api::privilege::for_kernel_file;
use wattrace_api::trace::TraceContext;
use wattrace_procfs::namespace::pids_are_private;

/// Most bytes of an environment that are read.
const MOST_READ: u64 = 256 * 1024;

/// Reads environments, if they can be read.
#[derive(Debug)]
pub(crate) struct Carriers {
    /// `None`: they are not looked at.
    proc: Option<PathBuf>,
}

impl Carriers {
    /// Those of the processes in `/proc`; none, unless `join`. In a private PID namespace pids mean other
    /// processes than for the kernel programs.
    pub(crate) fn open(join: bool) -> Self {
        Self { proc: (join && !pids_are_private()).then(|| "/proc".into()) }
    }

    /// No environments.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { proc: None }
    }

    /// Those under `root`.
    #[cfg(test)]
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { proc: Some(root.into()) }
    }

    /// The context in the environment of process `pid`. `None`: it has none, has exited, or may not be read.
    pub(crate) fn of(&self, pid: u32) -> Option<TraceContext> {
        let path = self.proc.as_ref()?.join(format!("{pid}/environ"));
        let mut environment = Vec::new();
        let read = || File::open(&path)?.take(MOST_READ).read_to_end(&mut environment);
        for_kernel_file(&path, read).ok()?;
        context(&environment)
    }
}

/// The context among `environment`, `NAME=VALUE` terminated by zeros. Of several the first counts, as for
/// `getenv`.
pub(crate) fn context(environment: &[u8]) -> Option<TraceContext> {
    let found = environment.split(|&byte| byte == 0).try_for_each(|variable| {
        let value = variable.strip_prefix(TraceContext::VARIABLE.as_bytes());
        match value.and_then(|value| value.strip_prefix(b"=")) {
            Some(value) => ControlFlow::Break(value),
            None => ControlFlow::Continue(()),
        }
    });
    TraceContext::parse(std::str::from_utf8(found.break_value()?).ok()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Stdio;

    use super::*;

    const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_first_variable_of_that_name_counts() {
        let of = |text: String| context(text.as_bytes()).map(|context| context.to_string());
        assert_eq!(of(format!("A=b\0TRACEPARENT={CONTEXT}\0TRACEPARENT=x\0")), Some(CONTEXT.to_owned()));
        assert_eq!(of(format!("TRACEPARENT=\0TRACEPARENT={CONTEXT}\0")), None);
        assert_eq!(of(format!("XTRACEPARENT={CONTEXT}\0TRACEPARENTX={CONTEXT}\0TRACEPARENT\0")), None);
        assert_eq!(of(String::new()), None);
        assert_eq!(context(b"TRACEPARENT=\xff\0"), None);
    }

    #[test]
    fn the_environment_of_a_process_is_read() {
        let mut cat = std::process::Command::new("cat");
        cat.env("TRACEPARENT", CONTEXT).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = cat.spawn().unwrap();
        // A program that has just been executed may not have its environment yet; one that answers has.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let found = Carriers::at("/proc").of(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.map(|context| context.to_string()).as_deref(), Some(CONTEXT));
        assert_eq!(Carriers::at("/proc").of(child.id()), None, "it has exited");
        assert_eq!(Carriers::none().of(std::process::id()), None);
    }
}
