//! The power of the last frames of a consumer or a domain. Only frames in which there was some are kept, so
//! that what sleeps costs nothing.

use std::collections::VecDeque;

/// How many frames are kept at most.
pub const FRAMES: u32 = 240;

/// The power of the last frames, in watts.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Frame and watts, in the order of frames.
    points: VecDeque<(u32, f32)>,
}

impl History {
    pub(crate) fn push(&mut self, frame: u32, watts: f32) {
        while self.points.front().is_some_and(|&(first, _)| first + FRAMES <= frame) {
            self.points.pop_front();
        }
        self.points.push_back((frame, watts));
    }

    /// The watts of the `count` frames up to `frame`, the oldest first; 0 where there was nothing. Frames
    /// before the first one are left out.
    pub fn last(&self, frame: u32, count: usize) -> Vec<f32> {
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(frame).min(FRAMES);
        let first = frame - count + 1;
        let mut watts = vec![0.0; count as usize];
        for &(at, value) in self.points.iter().rev().take_while(|(at, _)| *at >= first) {
            if let Some(place) = watts.get_mut((at - first) as usize) {
                *place = value;
            }
        }
        watts
    }

    /// The largest of the frames that are kept, in watts.
    pub fn peak(&self) -> f32 {
        self.points.iter().fold(0.0, |peak, &(_, watts)| peak.max(watts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_power_are_zero_and_old_ones_are_forgotten() {
        let mut history = History::default();
        history.push(2, 5.0);
        history.push(4, 7.0);
        assert_eq!(history.last(5, 4), [5.0, 0.0, 7.0, 0.0]);
        assert_eq!(history.last(3, 100), [0.0, 5.0, 0.0], "three frames there were");
        assert_eq!((history.last(0, 10), history.peak()), (vec![], 7.0));
        (5..5 + FRAMES).for_each(|frame| history.push(frame, 1.0));
        assert_eq!((history.points.len(), history.peak()), (FRAMES as usize, 1.0));
    }
}
