//! Seek points, in the room that the header has for them.

use super::ebml::{self, binary, master, void};
use super::header::VIDEO_TRACK;

/// Where playing can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeekPoint {
    /// Timestamp of the keyframe, in ticks of the file.
    pub ticks: u64,
    /// Where its cluster begins, counted from the file's begin.
    pub cluster_at: u64,
}

/// Seek points, so many at most. When there are more, every other one goes, and from then on every other one is kept.
#[derive(Clone, Debug)]
pub(super) struct Cues {
    points: Vec<SeekPoint>,
    max: usize,
    /// One of so many keyframes is kept.
    stride: u64,
    seen: u64,
}

impl Cues {
    pub(super) const fn new(max: usize) -> Self {
        Self { points: Vec::new(), max, stride: 1, seen: 0 }
    }

    pub(super) fn add(&mut self, point: SeekPoint) {
        if self.seen.is_multiple_of(self.stride) {
            if self.points.len() == self.max {
                let mut index = 0_usize;
                self.points.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride *= 2;
            }
            // With an odd maximum the one that comes now may be between two that stay.
            if self.seen.is_multiple_of(self.stride) {
                self.points.push(point);
            }
        }
        self.seen += 1;
    }

    pub(super) fn points(&self) -> &[SeekPoint] {
        &self.points
    }

    /// Room for `max` points, and for the Void behind them.
    pub(super) const fn len_of(max: usize) -> usize {
        HEAD_LEN + max * POINT_LEN + VOID_LEN
    }

    /// How many points fit; the inverse of [`Self::len_of`].
    pub(super) const fn max_of(len: usize) -> usize {
        len.saturating_sub(HEAD_LEN + VOID_LEN) / POINT_LEN
    }

    /// Appends the element; `data_off` is where the segment's content begins.
    pub(super) fn put(&self, out: &mut Vec<u8>, data_off: u64) {
        if self.points.is_empty() {
            // An empty Cues element is not allowed.
            return void(out, HEAD_LEN);
        }
        ebml::CUES.put(out);
        out.extend(ebml::size_of_eight((self.points.len() * POINT_LEN) as u64));
        for point in &self.points {
            let before = out.len();
            master(out, ebml::CUE_POINT, |out| {
                binary(out, ebml::CUE_TIME, &point.ticks.to_be_bytes());
                master(out, ebml::CUE_TRACK_POSITIONS, |out| {
                    binary(out, ebml::CUE_TRACK, &[VIDEO_TRACK]);
                    let at = point.cluster_at.saturating_sub(data_off);
                    binary(out, ebml::CUE_CLUSTER_POSITION, &at.to_be_bytes());
                });
            });
            debug_assert_eq!(out.len() - before, POINT_LEN, "all numbers have eight bytes");
        }
    }
}

const HEAD_LEN: usize = 4 + 8;
const POINT_LEN: usize = 2 + (2 + 8) + 2 + (2 + 1) + (2 + 8);
/// A Void of any length of at least two bytes fits behind the points.
const VOID_LEN: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn point(n: u64) -> SeekPoint {
        SeekPoint { ticks: n * 10_000, cluster_at: 5000 + n }
    }

    #[test]
    fn too_many_points_are_thinned_evenly() {
        for max in [1, 2, 3, 4, 7, 8] {
            for count in 1..200 {
                let mut cues = Cues::new(max);
                (0..count).for_each(|n| cues.add(point(n)));
                let ticks: Vec<u64> = cues.points().iter().map(|point| point.ticks / 10_000).collect();
                assert!(!ticks.is_empty() && ticks.len() <= max, "{max} {count}: {ticks:?}");
                assert_eq!(ticks[0], 0);
                assert!(
                    ticks.iter().enumerate().all(|(n, at)| *at == n as u64 * cues.stride),
                    "{max} {count}: {ticks:?}"
                );
                assert!(count - ticks[ticks.len() - 1] <= cues.stride, "{max} {count}: {ticks:?}");
            }
        }
    }

    #[test]
    fn any_number_of_points_leaves_room_for_a_void() {
        for count in 0..=4 {
            let mut cues = Cues::new(4);
            (0..count).for_each(|n| cues.add(point(n)));
            let mut out = Vec::new();
            cues.put(&mut out, 48);
            assert!(Cues::len_of(4) - out.len() >= ebml::VOID_LEN_MIN);
        }
    }
}
