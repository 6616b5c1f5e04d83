//! The exact factor from counts to microjoules: wattrace-meter has it.

pub(crate) use wattrace_meter::Scale;
