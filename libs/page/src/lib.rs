//! The web page of `wattrace view` and `wattrace exec --html`: power over time, and whose joules they are.
//!
//! | module | holds |
//! | --- | --- |
//! | [`history`] | who used how much when, as it is collected; bounded however long that takes |
//! | `increments`, `axis` | increments of counters; into which buckets their time is divided |
//! | [`document`] | what the page shows, `wattrace.view/1`, in JSON |
//! | `summary`, `entry`, `processes` | the document of a history; its consumers; the tree of processes |
//! | [`html`] | the page: one file that needs no other |
//! | [`server`] | gives page and document to a browser on this machine |
//!
//! The page itself is in `web/`: JavaScript modules and a style sheet, which `html` puts together, and the
//! charts' library in `web/vendor/`.
//!
//! All energy is in whole microjoules, so that what the page adds up equals what the meters measured.

mod axis;
pub mod document;
mod entry;
pub mod history;
pub mod html;
mod increments;
mod processes;
pub mod server;
mod summary;

pub use document::Document;
pub use history::{ConsumerInfo, History};
pub use increments::Window;
pub use server::{Server, Source};
pub use summary::{About, summarise};
