//! What the kernel knows about the processes that are shown, and no others: asked for when a screen is drawn.

/// A thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadFacts {
    /// Its thread id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// `R`, `S`, …
    pub state: char,
    /// Its time on CPUs since it began, ns.
    pub cpu_nanos: u64,
}

/// What is read about one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessFacts {
    /// The threads that live.
    pub threads: Vec<ThreadFacts>,
    /// The time on CPUs of all its threads, also of those that have ended, ns.
    pub cpu_nanos: u64,
    /// The span that is open in it, as `traceparent` names it.
    pub span: Option<String>,
}

/// Knows more about processes. A method whose answer is not known gives `None`.
pub trait Facts {
    /// A screen is drawn next.
    fn begin_screen(&mut self) {}

    /// Resident memory of a process, bytes.
    fn memory(&mut self, pid: u32) -> Option<u64>;

    /// The same of one of many: it may be some screens old.
    fn memory_of_one_of_many(&mut self, pid: u32) -> Option<u64> {
        self.memory(pid)
    }

    /// Memory that the cgroup at `path` is charged for, with those below it, bytes.
    fn memory_of_cgroup(&mut self, path: &str) -> Option<u64>;

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

    fn memory_of_cgroup(&mut self, _path: &str) -> Option<u64> {
        None
    }

    fn process(&mut self, _pid: u32) -> Option<ProcessFacts> {
        None
    }
}
