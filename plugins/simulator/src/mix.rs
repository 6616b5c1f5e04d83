//! What a thread executes, as far as power is concerned: its speed, its cache misses, and the energy of its
//! instructions. The figures are rounded from textbooks and characterisations of SPEC CPU.

use serde::{Deserialize, Serialize};

/// A kind of code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// Integer arithmetic in the caches: compilers, compression.
    #[default]
    Integer,
    /// Unpredictable branches: interpreters, parsers.
    Branchy,
    /// Scalar floating point: simulations.
    Float,
    /// Wide vectors: linear algebra.
    Vector,
    /// Streams through memory, prefetched: copies, scans.
    Stream,
    /// Follows pointers through memory: graphs, databases.
    Chase,
}

/// The figures of a kind of code.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Instructions per cycle, alone on the core and without cache misses.
    pub ipc: f64,
    /// Misses of the last-level cache per thousand instructions.
    pub mpki: f64,
    /// Time that a miss stalls the thread, ns: memory's latency over the number of concurrent misses.
    pub stall_ns: f64,
    /// Energy of an instruction, as a multiple of the average. No hardware counter shows it.
    pub weight: f64,
    /// Energy of a miss in the memory, as a multiple of the average (open rows cost less). No hardware
    /// counter shows it.
    pub row_weight: f64,
}

impl Mix {
    /// All of them.
    pub const ALL: [Mix; 6] = [Mix::Integer, Mix::Branchy, Mix::Float, Mix::Vector, Mix::Stream, Mix::Chase];

    /// Its figures.
    pub const fn profile(self) -> Profile {
        let (ipc, mpki, stall_ns, weight, row_weight) = match self {
            Mix::Integer => (2.2, 0.1, 30.0, 1.00, 1.00),
            Mix::Branchy => (1.0, 0.5, 40.0, 0.96, 1.00),
            Mix::Float => (1.7, 1.0, 30.0, 1.03, 1.00),
            Mix::Vector => (1.5, 3.0, 12.0, 1.08, 0.97),
            Mix::Stream => (1.6, 20.0, 12.0, 0.99, 0.95),
            Mix::Chase => (1.1, 14.0, 65.0, 0.95, 1.06),
        };
        Profile { ipc, mpki, stall_ns, weight, row_weight }
    }
}
