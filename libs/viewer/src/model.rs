//! The state that messages build up. A point costs one look-up and an addition; what a frame costs grows with
//! the consumers that used something in it. Whatever a viewer draws is computed from it then (`table.rs`).
//!
//! | module | holds |
//! | --- | --- |
//! | `consumer` | a consumer: its parts of the domains' energy, its use of CPUs and GPUs |
//! | `domain` | a domain: its meter, and how much of that has been attributed |
//! | `state` | the model itself, and what is computed from it |
//! | `series` | a series, and what its points change |
//! | `describe` | consumers as they are described |
//! | `groups` | programs and trees, which the model adds up from processes |
//! | `points` | from a point to a consumer or a domain |
//! | `frame` | the end of a frame: from increments to power |

mod consumer;
mod describe;
mod domain;
mod frame;
mod groups;
mod points;
mod series;
mod state;

pub use self::consumer::{Consumer, Key, Part};
pub use self::domain::Domain;
pub use self::state::Model;
use crate::message::Message;

impl Model {
    /// Takes a message. Returns whether a frame has ended, so that there is something new to show.
    pub fn apply(&mut self, message: &Message) -> bool {
        if message.reset {
            self.forget_numbers();
        }
        self.lost = self.lost.max(message.lost);
        for consumer in &message.consumers {
            self.describe_consumer(consumer);
        }
        for domain in &message.domains {
            self.describe_domain(domain);
        }
        for series in &message.series {
            self.describe_series(series);
        }
        for window in &message.windows {
            self.take(window);
        }
        for id in &message.ended {
            self.end_series(*id);
        }
        self.end_frame_if_due()
    }
}

#[cfg(test)]
mod tests;
