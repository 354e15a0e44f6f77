//! Whose packets are heard, where one channel carries those of several sources.
//!
//! A session has one source. But cameras send on a new connection what is left of a session before it, for as long as they
//! believe in that (live555 before 2017.06.04, Reolink), and they change their source for good (an encoder that starts again;
//! Uniview with each group of pictures). Which of the two it is, only what follows can show: until then the packets of the
//! newcomer are held, so that neither the timeline of the one is lost nor a picture of the other.
//!
//! ```text
//!             another source                      the heard one goes on
//!   heard ──────────────────────▶ newcomer, held ────────────────────────▶ stranger, refused
//!     ▲                               │                                        │
//!     └─────── takes over ◀───────────┴────────────────────────────────────────┘
//!              begins its second picture alone,            is alone for a second
//!              or is followed by a third source
//! ```
//!
//! What the camera announced decides at once, where it fits: the SSRC of SETUP's Transport (RFC 2326 §12.39) and the number
//! of the first packet in RTP-Info (§12.33). Nothing is refused by it, because cameras announce what never comes.

use std::time::Duration;

use super::Header;
use crate::limits::HELD_PACKETS_LEN_MAX;
use crate::time::{Mono, Now};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is of the source that is heard.
    Heard,
    /// Its payload is to be given to [`Sources::hold`].
    Held,
    /// It is of a source that sends beside the one that is heard.
    Refused,
    /// Another source is heard from now on: first what it sent that was held ([`Sources::take_held`]). Then ask again for this one.
    TakesOver,
}

/// What a camera says of the source that it will send. Advisory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The source.
    pub ssrc: Option<u32>,
    /// Number of its first packet.
    pub sequence: Option<u16>,
}

/// The sources of one connection's video.
#[derive(Debug, Default)]
pub struct Sources {
    /// The one that is heard.
    heard: u32,
    /// Nothing but a packet of another source is news.
    is_settled: bool,
    /// Packets of `heard` so far, up to 2, which is how many prove a source (RFC 3550 §A.1).
    proof: u8,
    is_announced: bool,
    announced: Announced,
    /// Has sent since `heard` did.
    newcomer: Option<Newcomer>,
    held: Held,
    strangers: [Option<u32>; STRANGERS_MAX],
    /// Was heard until another took over.
    before: Option<u32>,
    refused: u64,
}

#[derive(Clone, Copy, Debug)]
struct Newcomer {
    ssrc: u32,
    since: Mono,
    /// Timestamp of its first packet.
    timestamp: u32,
    is_stranger: bool,
}

/// Packets that wait for what becomes of their source.
#[derive(Debug, Default)]
pub struct Held {
    packets: Vec<(Header, Now, usize)>,
    bytes: Vec<u8>,
}

impl Sources {
    /// A connection that has received nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// What PLAY and SETUP were answered.
    pub const fn announce(&mut self, announced: Announced) {
        self.announced = announced;
    }

    /// Takes note of a packet.
    pub fn admit(&mut self, header: &Header, now: Now) -> Admission {
        if self.is_settled && header.ssrc == self.heard {
            return Admission::Heard;
        }
        self.look_at(header, now)
    }

    /// Bytes of the packet that is to be held.
    pub fn hold(&mut self, bytes: &[u8]) {
        self.held.bytes.extend_from_slice(bytes);
        if let Some((_, _, end)) = self.held.packets.last_mut() {
            *end = self.held.bytes.len();
        }
    }

    /// Nothing more comes: a newcomer that spoke last takes over. False if there is none.
    pub fn end(&mut self) -> bool {
        let newcomer = self.newcomer.filter(|newcomer| !newcomer.is_stranger);
        newcomer.inspect(|newcomer| self.hear(newcomer.ssrc, false)).is_some()
    }

    /// What the source sent that has taken over, without the packet by which it did.
    pub fn take_held(&mut self) -> Held {
        std::mem::take(&mut self.held)
    }

    /// Gives the memory of [`Self::take_held`] back.
    pub fn put_back(&mut self, mut held: Held) {
        held.clear();
        self.held = held;
    }

    /// The source that sent last, of those that are not refused.
    pub fn speaking(&self) -> Option<u32> {
        match self.newcomer {
            Some(Newcomer { ssrc, is_stranger: false, .. }) => Some(ssrc),
            Some(_) | None => (self.proof > 0).then_some(self.heard),
        }
    }

    /// Whether this is a source whose packets have come, and not the one that is heard: what it reports is not of that. A source that
    /// has sent no packet may well be the camera's name for itself.
    pub fn is_another(&self, ssrc: u32) -> bool {
        let is_newcomer = self.newcomer.is_some_and(|newcomer| newcomer.ssrc == ssrc);
        let is_known = is_newcomer || self.before == Some(ssrc) || self.strangers.contains(&Some(ssrc));
        is_known && (self.proof == 0 || ssrc != self.heard)
    }

    /// Packets that were refused, or held in vain.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    #[cold]
    fn look_at(&mut self, header: &Header, now: Now) -> Admission {
        if self.proof == 0 {
            self.hear(header.ssrc, self.announced.is(header, true));
            return Admission::Heard;
        }
        if header.ssrc == self.heard {
            self.goes_on();
            return Admission::Heard;
        }
        let newcomer = match self.newcomer.filter(|newcomer| newcomer.ssrc == header.ssrc) {
            Some(newcomer) if self.takes_over(&newcomer, header, now.mono) => {
                self.hear(header.ssrc, self.announced.is(header, false));
                return Admission::TakesOver;
            }
            Some(newcomer) => newcomer,
            None => {
                let newcomer = self.newcomer(header, now.mono);
                if !self.is_announced && self.announced.is(header, !newcomer.is_stranger) {
                    self.drop_held();
                    self.refuse_from_now_on(self.heard);
                    self.hear(header.ssrc, true);
                    return Admission::TakesOver;
                }
                if newcomer.is_stranger && self.newcomer.is_some_and(|other| !other.is_stranger) {
                    self.refused += 1;
                    return Admission::Refused;
                }
                if self.end() {
                    return Admission::TakesOver;
                }
                self.drop_held();
                self.newcomer = Some(newcomer);
                self.is_settled = false;
                newcomer
            }
        };
        if newcomer.is_stranger {
            self.refused += 1;
            return Admission::Refused;
        }
        self.held.packets.push((*header, now, self.held.bytes.len()));
        Admission::Held
    }

    fn newcomer(&self, header: &Header, since: Mono) -> Newcomer {
        let is_stranger = self.strangers.contains(&Some(header.ssrc));
        Newcomer { ssrc: header.ssrc, since, timestamp: header.timestamp, is_stranger }
    }

    /// Whether the newcomer, who has been alone since its first packet, is heard from its next one on.
    fn takes_over(&self, newcomer: &Newcomer, header: &Header, now: Mono) -> bool {
        let is_announced = !self.is_announced && self.announced.is(header, false);
        let is_alone = now.since(newcomer.since) >= ALONE_MIN;
        let begins_second = header.timestamp != newcomer.timestamp;
        let is_proven = self.proof < PROOF || begins_second || self.held.len(header) > HELD_PACKETS_LEN_MAX;
        is_announced || is_alone || (is_proven && !newcomer.is_stranger)
    }

    /// The heard source sent again.
    fn goes_on(&mut self) {
        self.proof = PROOF;
        self.is_settled = true;
        if let Some(newcomer) = self.newcomer.take()
            && !newcomer.is_stranger
        {
            self.refuse_from_now_on(newcomer.ssrc);
        }
        self.drop_held();
    }

    fn refuse_from_now_on(&mut self, ssrc: u32) {
        self.strangers.rotate_right(1);
        self.strangers[0] = Some(ssrc);
    }

    fn hear(&mut self, ssrc: u32, is_announced: bool) {
        let is_first = self.proof == 0;
        if !is_first && ssrc != self.heard {
            self.before = Some(self.heard);
        }
        self.heard = ssrc;
        self.is_announced = is_announced;
        self.proof = if is_first && !is_announced { 1 } else { PROOF };
        self.is_settled = self.proof == PROOF;
        self.newcomer = None;
        self.strangers
            .iter_mut()
            .filter(|stranger| **stranger == Some(ssrc))
            .for_each(|stranger| *stranger = None);
    }

    fn drop_held(&mut self) {
        self.refused += self.held.packets.len() as u64;
        self.held.clear();
    }
}

impl Announced {
    /// Whether the packet is of the announced source. Its number is one only for a source's first.
    fn is(self, header: &Header, is_first: bool) -> bool {
        self.ssrc == Some(header.ssrc) || (is_first && self.sequence == Some(header.sequence))
    }
}

impl Held {
    /// Headers, when they came, and payloads.
    pub fn iter(&self) -> impl Iterator<Item = (Header, Now, &[u8])> {
        let mut start = 0;
        self.packets.iter().map(move |&(header, now, end)| {
            let payload = self.bytes.get(start..end).unwrap_or_default();
            start = end;
            (header, now, payload)
        })
    }

    /// Bytes with one packet more.
    fn len(&self, next: &Header) -> usize {
        let packets = (self.packets.len() + 1) * size_of::<(Header, Now, usize)>();
        self.bytes.len() + next.payload_len + packets
    }

    fn clear(&mut self) {
        self.packets.clear();
        self.bytes.clear();
    }
}

/// Packets that prove a source (`MIN_SEQUENTIAL` of RFC 3550 §A.1).
const PROOF: u8 = 2;
/// How long a source must have been the only one, to be heard though it has been one of several.
const ALONE_MIN: Duration = Duration::from_secs(1);
/// Strangers that are remembered; a camera holds a few sessions.
const STRANGERS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::Admission::{Heard, Held, Refused, TakesOver};
    use super::*;

    const A: u32 = 0xa;
    const B: u32 = 0xb;
    const C: u32 = 0xc;

    /// Packets of 100 bytes by source, number and timestamp, a millisecond apart.
    #[derive(Default)]
    struct Channel {
        sources: Sources,
        now: Now,
        heard: Vec<(u32, u16)>,
    }

    impl Channel {
        fn send(&mut self, ssrc: u32, sequence: u16, timestamp: u32) -> Admission {
            self.now.mono = self.now.mono + Duration::from_millis(1);
            let header = Header { ssrc, sequence, timestamp, payload_len: 100, ..Header::default() };
            let admission = self.sources.admit(&header, self.now);
            match admission {
                Held => self.sources.hold(&[1; 100]),
                TakesOver => {
                    self.hear_held();
                    if self.sources.admit(&header, self.now) == Held {
                        self.sources.hold(&[1; 100]);
                    } else {
                        self.heard.push((ssrc, sequence));
                    }
                }
                Heard => self.heard.push((ssrc, sequence)),
                Refused => {}
            }
            admission
        }

        fn hear_held(&mut self) {
            let held = self.sources.take_held();
            for (header, _, payload) in held.iter() {
                assert_eq!(payload, [1; 100]);
                self.heard.push((header.ssrc, header.sequence));
            }
            self.sources.put_back(held);
        }

        /// A channel on which A is heard.
        fn of_a() -> Self {
            let mut channel = Self::default();
            assert_eq!([channel.send(A, 1, 0), channel.send(A, 2, 0)], [Heard, Heard]);
            channel.heard.clear();
            channel
        }
    }

    #[test]
    fn row55_a_source_that_follows_another_loses_nothing() {
        let mut channel = Channel::of_a();
        let got = [(5, 90), (6, 90), (7, 180), (8, 180)].map(|(n, at)| channel.send(B, n, at));
        assert_eq!(got, [Held, Held, TakesOver, Heard]);
        assert_eq!(channel.heard, [(B, 5), (B, 6), (B, 7), (B, 8)]);
        assert_eq!(channel.sources.refused(), 0);
    }

    #[test]
    fn row18_packets_between_those_of_the_heard_source_are_refused() {
        let mut channel = Channel::of_a();
        assert_eq!(
            [channel.send(B, 5, 0), channel.send(B, 6, 0), channel.send(A, 3, 90)],
            [Held, Held, Heard]
        );
        for n in 4..100 {
            let at = u32::from(n) * 90;
            assert_eq!([channel.send(B, 2 * n, at), channel.send(B, 2 * n + 1, at + 1)], [Refused; 2]);
            assert_eq!(channel.send(A, n, at), Heard);
        }
        assert!(channel.heard.iter().all(|(ssrc, _)| *ssrc == A));
        assert_eq!(channel.sources.refused(), 2 + 2 * 96);
    }

    #[test]
    fn a_stranger_is_heard_when_it_has_been_alone_for_a_second() {
        let mut channel = Channel::of_a();
        assert_eq!([channel.send(B, 5, 0), channel.send(A, 3, 0)], [Held, Heard]);
        assert_eq!(channel.send(B, 6, 90), Refused);
        channel.now.mono = channel.now.mono + Duration::from_millis(998);
        assert_eq!(channel.send(B, 7, 180), Refused);
        assert_eq!([channel.send(B, 8, 180), channel.send(B, 9, 180)], [TakesOver, Heard]);
        assert_eq!(
            [channel.send(A, 4, 0), channel.send(B, 10, 0), channel.send(A, 5, 0)],
            [Held, Heard, Refused]
        );
    }

    #[test]
    fn one_packet_proves_no_source() {
        let mut channel = Channel::default();
        let got =
            [channel.send(B, 9, 7), channel.send(A, 1, 0), channel.send(A, 2, 0), channel.send(B, 10, 7)];
        assert_eq!(got, [Heard, Held, TakesOver, Held]);
        assert_eq!(channel.heard, [(B, 9), (A, 1), (A, 2)]);
    }

    #[test]
    fn the_announced_source_is_heard_at_once() {
        for announced in [(Some(A), None), (None, Some(1)), (Some(A), Some(1))] {
            let mut channel = Channel::default();
            channel.sources.announce(Announced { ssrc: announced.0, sequence: announced.1 });
            assert_eq!([channel.send(B, 9, 0), channel.send(B, 10, 90), channel.send(B, 11, 90)], [Heard; 3]);
            assert_eq!(
                [channel.send(A, 1, 0), channel.send(B, 12, 90)],
                [TakesOver, Refused],
                "{announced:?}"
            );
            assert_eq!([channel.send(A, 2, 0), channel.send(B, 13, 90)], [Heard, Refused]);
        }
    }

    #[test]
    fn row61_what_is_announced_and_never_comes_costs_nothing() {
        let mut channel = Channel::of_a();
        channel.sources.announce(Announced { ssrc: Some(C), sequence: Some(9) });
        let got = [(5, 90), (6, 180), (9, 180)].map(|(n, at)| channel.send(B, n, at));
        assert_eq!(got, [Held, TakesOver, Heard]);
    }

    #[test]
    fn a_third_source_shows_that_the_second_has_taken_over() {
        let mut channel = Channel::of_a();
        assert_eq!([channel.send(B, 5, 90), channel.send(C, 8, 180)], [Held, TakesOver]);
        assert_eq!([channel.send(C, 9, 180), channel.send(C, 10, 270)], [Held, TakesOver]);
        assert_eq!(channel.heard, [(B, 5), (C, 8), (C, 9), (C, 10)]);
    }

    #[test]
    fn what_is_held_has_an_end() {
        let mut channel = Channel::of_a();
        let in_no_time = |n| {
            channel.now = Now::default();
            channel.send(B, n, 0)
        };
        let got: Vec<_> = (0..3000).map(in_no_time).collect();
        let count = got.iter().position(|admission| *admission == TakesOver).unwrap();
        assert!((1500..2600).contains(&count), "{count}");
        assert!(channel.heard.len() == 3000 && got[count + 1..].iter().all(|admission| *admission == Heard));
    }

    #[test]
    fn who_sends_beside_the_heard_one_reports_of_itself() {
        let mut channel = Channel::of_a();
        let others = |channel: &Channel| [A, B, C].map(|ssrc| channel.sources.is_another(ssrc));
        assert_eq!(others(&channel), [false; 3], "C may be what A calls itself there");
        channel.send(B, 5, 90);
        assert_eq!(others(&channel), [false, true, false], "held");
        channel.send(B, 6, 180);
        assert_eq!(others(&channel), [true, false, false], "took over");
        channel.send(C, 7, 270);
        channel.send(B, 8, 360);
        assert_eq!(others(&channel), [true, false, true], "refused");
    }

    #[test]
    fn who_speaks_last_is_heard() {
        let mut channel = Channel::of_a();
        assert!(!channel.sources.end());
        channel.send(B, 5, 90);
        assert!(channel.sources.end());
        channel.hear_held();
        assert_eq!(channel.heard, [(B, 5)]);

        let mut channel = Channel::of_a();
        [(B, 5), (A, 3), (B, 6)].into_iter().for_each(|(ssrc, n)| _ = channel.send(ssrc, n, 90));
        assert!(!channel.sources.end(), "a stranger");
    }
}
