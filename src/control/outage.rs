//! Cameras that were lost together come back together: a power cut, a switch, a cable.
//!
//! Each waits up to 30 s between its attempts by then, so the last of them would come back half a minute after the
//! first. Instead, when one of them streams again, the others are tried soon; the shards' gates see to it that they do
//! not all come at once. Plain data: time is an argument.

use std::collections::HashMap;
use std::time::Duration;

use crate::ids::StreamUid;
use crate::ingest::{Reason, State, Status};
use crate::time::Mono;

/// Streams that were lost within this time of each other were lost together. Long enough for the idle time-out to find
/// the last of those that just went silent.
const TOGETHER: Duration = Duration::from_secs(15);
/// So many others make it more than a coincidence.
const OTHERS_MIN: usize = 3;
/// A camera is not tried early again before this: it may take longer than others to start.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// The streams that are lost, and since when.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    lost: HashMap<StreamUid, Lost>,
}

#[derive(Clone, Copy, Debug)]
struct Lost {
    since: Mono,
    tried_early: Option<Mono>,
}

impl Outages {
    /// Notes a stream's new status. Answers who should be tried now.
    pub(crate) fn note(&mut self, uid: StreamUid, status: &Status, now: Mono) -> Vec<StreamUid> {
        match status.state {
            State::Streaming => {
                return self.lost.remove(&uid).map_or_else(Vec::new, |back| self.lost_with(back, now));
            }
            State::Backoff if is_out_of_reach(status.reason) => {
                self.lost.entry(uid).or_insert(Lost { since: now, tried_early: None });
            }
            State::Backoff | State::AuthFailed | State::Unsupported | State::Stopping => self.forget(uid),
            State::Pending | State::Connecting | State::Stalled => {}
        }
        Vec::new()
    }

    /// The stream is gone.
    pub(crate) fn forget(&mut self, uid: StreamUid) {
        self.lost.remove(&uid);
    }

    fn lost_with(&mut self, back: Lost, now: Mono) -> Vec<StreamUid> {
        let is_together = |lost: &Lost| lost.since.max(back.since) - lost.since.min(back.since) <= TOGETHER;
        if self.lost.values().filter(|lost| is_together(lost)).count() < OTHERS_MIN {
            return Vec::new();
        }
        let due = self.lost.iter_mut().filter(|(_, lost)| {
            is_together(lost) && lost.tried_early.is_none_or(|at| now - at >= AGAIN_AFTER)
        });
        due.map(|(uid, lost)| {
            lost.tried_early = Some(now);
            *uid
        })
        .collect()
    }
}

/// Whether the camera, or the way to it, may just be without power. Who answers with a refusal is there.
const fn is_out_of_reach(reason: Reason) -> bool {
    match reason {
        Reason::ResolveFailed
        | Reason::ConnectRefused
        | Reason::ConnectTimeout
        | Reason::ConnectFailed
        | Reason::ReplyTimeout
        | Reason::NoFirstFrame
        | Reason::NoVideoData
        | Reason::ConnectionClosed
        | Reason::ConnectionLost => true,
        Reason::None
        | Reason::NotRtsp
        | Reason::AuthRefused
        | Reason::Forbidden
        | Reason::NotFound
        | Reason::SessionLimit
        | Reason::ServiceUnavailable
        | Reason::RequestRefused
        | Reason::NoVideo
        | Reason::UnsupportedCodec
        | Reason::UnsupportedTransport
        | Reason::BadSdp
        | Reason::LimitExceeded
        | Reason::InternalError
        | Reason::Requested => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixNanos;

    struct World {
        outages: Outages,
        now: Mono,
    }

    impl World {
        fn new() -> Self {
            Self { outages: Outages::default(), now: Mono(1_000_000_000) }
        }

        fn pass(&mut self, seconds: u64) {
            self.now = self.now + Duration::from_secs(seconds);
        }

        fn tell(&mut self, uid: u64, state: State, reason: Reason) -> Vec<u64> {
            let status =
                Status { state, reason, detail: String::new(), since: UnixNanos(0), next_attempt: None };
            let due = self.outages.note(StreamUid(uid), &status, self.now);
            let mut due: Vec<_> = due.into_iter().map(|uid| uid.0).collect();
            due.sort_unstable();
            due
        }

        fn lose(&mut self, uids: std::ops::Range<u64>) {
            for uid in uids {
                assert_eq!(self.tell(uid, State::Backoff, Reason::ConnectionLost), []);
            }
        }

        fn comes_back(&mut self, uid: u64) -> Vec<u64> {
            assert_eq!(self.tell(uid, State::Connecting, Reason::ConnectionLost), []);
            self.tell(uid, State::Streaming, Reason::None)
        }
    }

    #[test]
    fn the_first_that_comes_back_calls_the_others() {
        let mut world = World::new();
        world.lose(0..3);
        world.pass(10);
        world.lose(3..6);
        world.pass(100);
        // Its failures go on; that is not a new loss.
        world.lose(0..6);
        assert_eq!(world.comes_back(4), [0, 1, 2, 3, 5]);
        assert_eq!(world.comes_back(1), [], "they were tried just now");
        world.pass(5);
        world.lose(5..6);
        assert_eq!(world.comes_back(0), [2, 3, 5], "some take longer to start");
    }

    #[test]
    fn those_lost_at_another_time_are_left_alone() {
        let mut world = World::new();
        world.lose(0..5);
        world.pass(16);
        world.lose(10..15);
        assert_eq!(world.comes_back(12), [10, 11, 13, 14]);
        assert_eq!(world.comes_back(77), [], "it was not lost");
    }

    #[test]
    fn a_few_are_a_coincidence() {
        let mut world = World::new();
        world.lose(0..3);
        assert_eq!(world.comes_back(0), []);
    }

    #[test]
    fn cameras_that_answer_are_never_tried_early() {
        let mut world = World::new();
        world.lose(0..8);
        world.tell(1, State::AuthFailed, Reason::AuthRefused);
        world.tell(2, State::Backoff, Reason::SessionLimit);
        world.tell(3, State::Unsupported, Reason::NoVideo);
        world.tell(4, State::Stopping, Reason::Requested);
        world.outages.forget(StreamUid(5));
        assert_eq!(world.comes_back(0), [], "two are too few");
        world.lose(8..12);
        assert_eq!(world.comes_back(8), [6, 7, 9, 10, 11]);
    }
}
