//! One TCP connection in simulated time: bytes in order, late, in pieces or together, until it ends.

use std::collections::VecDeque;
use std::time::Duration;

use vms_media::ingest::{PeerClose, Policy};
use vms_media::time::Mono;

use crate::conduct::Conduct;
use crate::random::Random;
use crate::server::{Server, Then};

/// What arrives at the daemon.
#[derive(Clone, Debug)]
pub(crate) enum Arrival {
    Bytes(Vec<u8>),
    End(PeerClose),
}

/// A connection, and the camera's end of it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) conduct: Conduct,
    pub(crate) server: Server,
    /// For the daemon, by time of arrival.
    arrivals: VecDeque<(Mono, Arrival)>,
    /// For the camera.
    pub(crate) requests: VecDeque<Vec<u8>>,
    /// What the camera is going to say.
    pub(crate) replies: VecDeque<(Vec<u8>, Then)>,
    last_arrival: Mono,
    pub(crate) frozen_until: Mono,
    /// Nothing gets through any more.
    pub(crate) is_dead: bool,
    /// Bytes that the camera has sent.
    pub(crate) written: u64,
    pub(crate) is_playing: bool,
    pub(crate) pictures: u32,
    /// When the camera last heard a request.
    pub(crate) heard_at: Mono,
    /// The daemon knows that a session was set up, and has said that it ends.
    pub(crate) is_set_up: bool,
    pub(crate) is_torn_down: bool,
    /// The daemon cannot see that PLAY was answered.
    pub(crate) is_answer_torn: bool,
}

impl Link {
    pub(crate) fn new(number: u64, conduct: Conduct, server: Server, now: Mono) -> Self {
        Self {
            number,
            conduct,
            server,
            arrivals: VecDeque::new(),
            requests: VecDeque::new(),
            replies: VecDeque::new(),
            last_arrival: now,
            frozen_until: now,
            is_dead: false,
            written: 0,
            is_playing: false,
            pictures: 0,
            heard_at: now,
            is_set_up: false,
            is_torn_down: false,
            is_answer_torn: false,
        }
    }

    /// The camera writes `bytes`. They come in up to `pieces`, each when the network likes; when, is given to `schedule`.
    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        pieces: usize,
        random: &mut Random,
        mut delay: impl FnMut(&mut Random) -> Mono,
        mut schedule: impl FnMut(Mono),
    ) {
        self.written += bytes.len() as u64;
        if self.is_dead || bytes.is_empty() {
            return;
        }
        let mut cuts: Vec<usize> =
            (1..random.size(1, pieces)).map(|_| random.size(1, bytes.len())).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut from = 0;
        for to in cuts {
            let at = self.arrive(delay(random), Arrival::Bytes(bytes[from..to].to_vec()));
            schedule(at);
            from = to;
        }
    }

    /// The connection ends behind what was written; when.
    pub(crate) fn end(&mut self, at: Mono, how: PeerClose) -> Mono {
        self.arrive(at, Arrival::End(how))
    }

    fn arrive(&mut self, at: Mono, arrival: Arrival) -> Mono {
        let at = at.max(self.last_arrival).max(self.frozen_until);
        self.last_arrival = at;
        self.arrivals.push_back((at, arrival));
        at
    }

    /// The camera does not forget its session, since it hears requests often enough; but for `slack` of the way and of the shard.
    pub(crate) fn check_heard(&self, now: Mono, slack: Duration) {
        let unheard = now.since(self.heard_at);
        let answer = if self.is_answer_torn { Policy::default().reply_timeout } else { Duration::ZERO };
        let most = self.server.timeout() + answer + slack;
        assert!(unheard <= most || self.is_torn_down, "no sign of life for {unheard:?}");
    }

    /// Drops what is on its way.
    pub(crate) fn lose_all(&mut self) {
        self.arrivals.clear();
    }

    /// Takes what has come by now: bytes together, as the kernel would have gathered them.
    pub(crate) fn take(&mut self, now: Mono) -> Option<Arrival> {
        let mut gathered = Vec::new();
        while let Some((_, arrival)) = self.arrivals.pop_front_if(|(at, _)| *at <= now) {
            match arrival {
                Arrival::Bytes(bytes) => gathered.extend(bytes),
                Arrival::End(how) if gathered.is_empty() => return Some(Arrival::End(how)),
                Arrival::End(_) => {
                    self.arrivals.push_front((now, arrival));
                    break;
                }
            }
        }
        (!gathered.is_empty()).then_some(Arrival::Bytes(gathered))
    }

    /// Whether more has come by now.
    pub(crate) fn has_more(&self, now: Mono) -> bool {
        self.arrivals.front().is_some_and(|(at, _)| *at <= now)
    }
}

/// A time later than `now` by `least` and up to `more`.
pub(crate) fn later(now: Mono, least: Duration, more: Duration, random: &mut Random) -> Mono {
    let more_us = u64::try_from(more.as_micros()).unwrap();
    now + least + Duration::from_micros(random.between(0, more_us))
}
