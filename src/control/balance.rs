//! Which shard carries which stream: the placing of new ones, and moves when shards are loaded unevenly. Pure.
//!
//! The load of a stream is what it was measured to send: its bytes, which cost a receive and a copy, and for each access unit
//! as much as [`UNIT_COST`] bytes, which stand for its parsing, its publication and its readers' wake-ups. A stream that was
//! not measured yet is taken for a typical one. Moves are few: one at a time, only when it makes the busiest shard clearly
//! less busy, and no stream twice within [`REST`], so that loads that swing do not make streams wander.

use std::collections::HashMap;
use std::time::Duration;

use crate::ids::StreamUid;
use crate::time::Mono;

/// What a unit costs beside its bytes, in bytes: measured, 20 KB take about four times as long as an empty unit.
const UNIT_COST: u64 = 5_000;
/// The load of a stream that was never measured: 4 Mbit/s at 25 units a second.
const TYPICAL: u64 = 500_000 + 25 * UNIT_COST;
/// How often moves are thought of.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a stream that was moved, by whomever, stays where it is.
const REST: Duration = Duration::from_secs(60);
/// The busiest shard is relieved when it has more than the idlest by this many hundredths of its own load ...
const GAP_PERCENT: u64 = 20;
/// ... and by this much.
const GAP_MIN: u64 = TYPICAL;

/// What is known of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamLoad {
    pub(crate) uid: StreamUid,
    pub(crate) shard: usize,
    /// Bytes and units a second; `None`: not measured yet.
    pub(crate) rates: Option<(u64, u64)>,
}

impl StreamLoad {
    /// What it will send in the long run, as far as is known.
    fn expected(&self) -> u64 {
        if self.is_sending() { self.load() } else { TYPICAL }
    }

    fn is_sending(&self) -> bool {
        self.rates.is_some_and(|(_, units)| units > 0)
    }

    fn load(&self) -> u64 {
        self.rates.map_or(TYPICAL, |(bytes, units)| bytes.saturating_add(units.saturating_mul(UNIT_COST)))
    }
}

/// Thinks of moves from time to time.
#[derive(Debug, Default)]
pub(crate) struct Balancer {
    next_at: Mono,
    moved_at: HashMap<StreamUid, Mono>,
}

/// The shard for one more stream: the least loaded of `shards`.
pub(crate) fn place(shards: usize, streams: impl Iterator<Item = StreamLoad>) -> usize {
    let sums = sums(shards, streams, StreamLoad::expected);
    sums.iter().enumerate().min_by_key(|(_, sum)| **sum).map_or(0, |(shard, _)| shard)
}

impl Balancer {
    /// Whether it is time to call [`Balancer::next_move`].
    pub(crate) fn is_due(&mut self, now: Mono) -> bool {
        let is_due = now >= self.next_at;
        if is_due {
            self.next_at = now + INTERVAL;
        }
        is_due
    }

    /// The stream that should be carried by another shard, and by which.
    pub(crate) fn next_move(
        &mut self,
        now: Mono,
        shards: usize,
        streams: &[StreamLoad],
    ) -> Option<(StreamUid, usize)> {
        self.moved_at.retain(|_, at| now.since(*at) < REST);
        let sums = sums(shards, streams.iter().copied(), StreamLoad::load);
        let (busiest, most) = sums.iter().enumerate().max_by_key(|(_, sum)| **sum)?;
        let (idlest, least) = sums.iter().enumerate().min_by_key(|(_, sum)| **sum)?;
        let gap = most - least;
        if gap <= GAP_MIN || gap <= most / 100 * GAP_PERCENT {
            return None;
        }
        // Of a stream with half of the gap both have the same afterwards; one with the whole gap would only change their places.
        // One with at most three quarters of it leaves at most half of it.
        let candidates = streams.iter().filter(|stream| {
            stream.shard == busiest
                && stream.is_sending()
                && stream.load() <= gap / 4 * 3
                && !self.moved_at.contains_key(&stream.uid)
        });
        let best = candidates.min_by_key(|stream| stream.load().abs_diff(gap / 2))?;
        Some((best.uid, idlest))
    }

    /// A stream was moved.
    pub(crate) fn moved(&mut self, uid: StreamUid, now: Mono) {
        self.moved_at.insert(uid, now);
    }
}

fn sums(
    shards: usize,
    streams: impl Iterator<Item = StreamLoad>,
    load: impl Fn(&StreamLoad) -> u64,
) -> Vec<u64> {
    let mut sums = vec![0_u64; shards];
    for stream in streams {
        if let Some(sum) = sums.get_mut(stream.shard) {
            *sum = sum.saturating_add(load(&stream));
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: u64 = 125_000;

    fn stream(uid: u64, shard: usize, mbit: u64) -> StreamLoad {
        StreamLoad { uid: StreamUid(uid), shard, rates: Some((mbit * MBIT, 25)) }
    }

    fn second(at: u64) -> Mono {
        Mono(1 + at * 1_000_000_000)
    }

    #[test]
    fn a_new_stream_goes_where_the_least_flows_and_not_where_the_fewest_are() {
        let heavy = [stream(1, 0, 40), stream(2, 1, 1), stream(3, 1, 1), stream(4, 1, 1)];
        assert_eq!(place(2, heavy.into_iter()), 1);
        assert_eq!(place(3, heavy.into_iter()), 2);
        assert_eq!(place(2, std::iter::empty()), 0);
        // Those that were just set up count, or a hundred of them would go to one shard.
        let mut streams: Vec<StreamLoad> = Vec::new();
        for uid in 0..100 {
            let shard = place(4, streams.iter().copied());
            streams.push(StreamLoad { uid: StreamUid(uid), shard, rates: None });
        }
        assert!((0..4).all(|shard| streams.iter().filter(|stream| stream.shard == shard).count() == 25));
        // So do those whose cameras are down: they come back, and all at once when it was the network.
        streams.clear();
        for uid in 0..100 {
            let shard = place(4, streams.iter().copied());
            streams.push(StreamLoad { uid: StreamUid(uid), shard, rates: Some((0, 0)) });
        }
        assert!((0..4).all(|shard| streams.iter().filter(|stream| stream.shard == shard).count() == 25));
    }

    #[test]
    fn uneven_shards_come_closer_with_each_move_and_then_rest() {
        let mut streams: Vec<_> =
            (0..40).map(|uid| stream(uid, usize::from(uid >= 32), 1 + uid % 8)).collect();
        let mut balancer = Balancer::default();
        let spread = |streams: &[StreamLoad]| {
            let sums = sums(2, streams.iter().copied(), StreamLoad::load);
            sums[0].abs_diff(sums[1])
        };
        let (mut moves, mut now) = (0, 0);
        loop {
            now += 5;
            let before = spread(&streams);
            let Some((uid, to)) = balancer.next_move(second(now), 2, &streams) else { break };
            streams.iter_mut().filter(|stream| stream.uid == uid).for_each(|stream| stream.shard = to);
            balancer.moved(uid, second(now));
            moves += 1;
            assert!(spread(&streams) < before && moves < 40);
        }
        let most = sums(2, streams.iter().copied(), StreamLoad::load).into_iter().max().unwrap();
        let allowed = GAP_MIN.max(most / 100 * GAP_PERCENT);
        assert!(moves > 0 && spread(&streams) <= allowed, "{moves} moves");
        for later in 1..100 {
            assert_eq!(balancer.next_move(second(now + later * 60), 2, &streams), None);
        }
    }

    #[test]
    fn nothing_moves_for_little_or_to_no_end() {
        let mut balancer = Balancer::default();
        let mut next = |streams: &[StreamLoad]| balancer.next_move(second(1), 2, streams);
        assert_eq!(next(&[]), None);
        assert_eq!(next(&[stream(1, 0, 50)]), None, "it would only change its place");
        assert_eq!(next(&[stream(1, 0, 4), stream(2, 0, 4), stream(3, 1, 4)]), None, "one stream's worth");
        let even: Vec<_> = (0..20).map(|uid| stream(uid, usize::from(uid >= 11), 4)).collect();
        assert_eq!(next(&even), None, "a tenth");
        let dead = StreamLoad { rates: Some((0, 0)), ..stream(9, 0, 0) };
        assert_eq!(
            next(&[stream(1, 0, 50), dead, StreamLoad { rates: None, ..dead }]),
            None,
            "the rest weighs nothing"
        );
    }

    #[test]
    fn a_stream_that_was_moved_rests() {
        let streams = [stream(1, 0, 8), stream(2, 0, 8), stream(3, 0, 8), stream(4, 1, 1)];
        let mut balancer = Balancer::default();
        for uid in 1..=3 {
            assert!(
                balancer.next_move(second(10), 2, &streams).is_some_and(|(moved, _)| moved == StreamUid(uid))
            );
            balancer.moved(StreamUid(uid), second(10));
        }
        assert_eq!(balancer.next_move(second(69), 2, &streams), None);
        assert_eq!(balancer.next_move(second(70), 2, &streams), Some((StreamUid(1), 1)));
    }

    #[test]
    fn it_is_thought_of_every_five_seconds() {
        let mut balancer = Balancer::default();
        let due: Vec<u64> = (0..20).filter(|at| balancer.is_due(second(*at))).collect();
        assert_eq!(due, [0, 5, 10, 15]);
    }
}
