//! The screens of `wattrace top`. Everything here is drawn into a buffer and driven by events, so that tests
//! need no terminal; the command owns the terminal, and brings messages and events (`agent/src/cli/top`).
//!
//! | module | holds |
//! | --- | --- |
//! | [`app`] | what is shown: the model, the order of rows, the selection, what is open |
//! | `keys`, `mouse` | what keys and the mouse change |
//! | [`screen`] | the whole screen, by its height and width |
//! | `header`, `rows`, `detail`, `help`, `footer` | its parts |
//! | `memory`, `threads` | what a row's processes have resident; what each thread of one used |
//! | `canvas` | a screen that is filled from top to bottom |
//! | `chart` | bars of a line or more |
//! | `text` | numbers and names, fitted to a width |
//! | [`theme`] | colours for dark and light terminals, and none |
//! | [`plain`] | one table as text or JSON, for scripts |
//! | [`facts`] | what the kernel knows about a process that is shown |

pub mod app;
mod canvas;
mod chart;
mod detail;
pub mod facts;
mod footer;
mod header;
mod help;
mod keys;
mod memory;
mod mouse;
pub mod plain;
mod rows;
pub mod screen;
mod text;
pub mod theme;
mod threads;

pub use app::{Action, App, Position};
pub use facts::{Facts, NoFacts, ProcessFacts, ThreadFacts};
pub use theme::Theme;
