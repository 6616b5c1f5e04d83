//! What a viewer of Wattrace knows, without anything that draws it: `wattrace top` and the page of `wattrace
//! view` show the same [`Model`].
//!
//! | module | holds |
//! | --- | --- |
//! | [`message`] | what a viewer is sent: descriptions, points, ends; a line of JSON each on the control socket |
//! | [`kind`] | the kinds of consumers that a viewer distinguishes |
//! | [`names`] | names that people recognise |
//! | [`model`] | the state that messages build up: consumers and domains, their energy and power |
//! | `members` | which processes belong to a row |
//! | [`table`] | the rows of one kind, and what closes the sum |
//! | [`history`] | the power of the last frames |
//! | [`testing`] | a simulated machine that sends messages, for tests |
//!
//! # Frames
//!
//! Points come one batch at a time, and the parts of one window may come in several. So power is computed
//! over *frames*: whenever the windows that have been closed span another interval, a frame ends. The power
//! of a domain is the energy of the windows that were closed in the frame, divided by their length, and a
//! consumer's is its part of the same windows. So in every frame
//!
//! > rows + hidden + idle + unattributed + other + rest = the meters
//!
//! and for joules this is exact in whole microjoules. `rest` is what no row has: processes that have ended,
//! and, if the viewer joined a running agent, processes that have not run since then.

pub mod history;
pub mod kind;
mod members;
pub mod message;
pub mod model;
pub mod names;
pub mod table;
#[doc(hidden)]
pub mod testing;

pub use history::History;
pub use kind::Kind;
pub use message::{
    ConsumerDescription, DomainDescription, Message, Points, Quantity, Root, SeriesDescription,
};
pub use model::{Consumer, Domain, Key, Model};
pub use table::{Query, Row, Sort, Table};
