//! What the kernel knows about the processes that are shown, and no others: asked for when a screen is drawn.

/// What is read about one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Number and name of each thread, with its state: `R`, `S`, …
    pub threads: Vec<(u32, String, char)>,
    /// The span that is open in it, as `traceparent` names it.
    pub span: Option<String>,
}

/// Knows more about processes.
pub trait Facts {
    /// Resident memory of a process, bytes; `None` if that is not known.
    fn memory(&mut self, pid: u32) -> Option<u64>;

    /// All that is known of a process.
    fn process(&mut self, pid: u32) -> Option<ProcessFacts>;
}

/// Knows nothing: for recorded points, whose processes are gone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFacts;

impl Facts for NoFacts {
    fn memory(&mut self, _pid: u32) -> Option<u64> {
        None
    }

    fn process(&mut self, _pid: u32) -> Option<ProcessFacts> {
        None
    }
}
