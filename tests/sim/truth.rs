//! The reference model of a stream's video: what the camera put on the wire, and what follows from it for readers and counters.
//!
//! A picture whose packets all went out in order reaches readers bit by bit, not later than its last byte reached the daemon, and
//! in its place. What was harmed may be missing, but never passes for whole. Nothing else is ever published.

use std::collections::VecDeque;

use ring_abi::consumer::Unit;
use ring_abi::layout::Flags;
use vms_media::ingest::CameraStats;

use crate::video::Picture;

/// What is to become of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Published, and not called damaged.
    Whole,
    /// Published as it was sent; may be called damaged, since what came before it was harmed.
    Shaken,
    /// Packets of it are missing: published in part and called damaged, or not at all.
    Harmed,
    /// Larger than a unit may be: not published.
    Huge,
    /// Frames were cut short around it, and what came next was taken for their rest.
    Torn,
}

/// A picture on the wire of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) picture: Picture,
    pub(crate) fate: Fate,
    pub(crate) ssrc: u32,
    pub(crate) timestamp: u32,
    /// Counts connections, sources and jumps of sequence numbers: breaks of the timeline.
    pub(crate) epoch: u32,
    /// Timestamps have jumped since the epoch began.
    pub(crate) jumped: bool,
    /// Packets lost right before it.
    pub(crate) lost_before: u32,
    /// Nothing of its epoch went before: nobody can know that its own beginning is missing.
    pub(crate) is_first: bool,
    /// Its last packet is missing, or says nothing of being the last.
    pub(crate) is_open: bool,
    /// Bytes of the connection until its first frame, and to the end of that which completes it (`u64::MAX`: not sent yet).
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// The same until it must have been published: behind noise, the first frame of another source is believed when the next header
    /// has come.
    pub(crate) due: u64,
    /// When it was taken, if the camera's reports tell the truth.
    pub(crate) captured_ns: Option<i64>,
}

/// Packets by what is to become of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) used: u64,
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    pub(crate) ignored: u64,
    pub(crate) skipped_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    start: u64,
    end: u64,
    effect: Tally,
}

/// A unit that was published.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) payload: Vec<u8>,
    pub(crate) flags: u32,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    ticks: i64,
    timeline: u32,
    timestamp: u32,
    epoch: u32,
    is_estimated: bool,
}

/// One stream's truth.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    sent: VecDeque<Sent>,
    marks: VecDeque<Mark>,
    /// Source of the unit that was published last on the connection.
    heard: Option<u32>,
    /// Bytes of the connection that the daemon has been given.
    delivered: u64,
    /// Counters when the connection began, and what is certain of it since.
    before: Tally,
    since: Tally,
    /// Frames were cut: how many packets the daemon counted, nobody can say.
    is_vague: bool,
    /// What was sent last may be chance for all that the daemon can know.
    is_in_doubt: bool,
    /// Bytes of the connection by which it was last settled.
    settled_at: u64,
    /// The daemon is done with the connection, or about to be: it may publish what comes, or not.
    pub(crate) is_over: bool,
    /// The first key picture of the connection came without its parameter sets: so the camera's key pictures are thought to begin.
    is_headless: bool,
    /// The last epoch in which a picture was seen to end.
    epoch_with_end: u32,
    last: Option<Last>,
    /// All units, by sequence number from 1.
    pub(crate) published: Vec<Published>,
    pub(crate) damaged: u64,
    pub(crate) keys: u64,
    pub(crate) bytes: u64,
}

impl Truth {
    /// A connection begins.
    pub(crate) fn connect(&mut self) {
        self.delivered = 0;
        self.heard = None;
        (self.is_over, self.is_headless) = (false, false);
        (self.is_in_doubt, self.settled_at) = (false, 0);
    }

    /// The camera sends a picture.
    pub(crate) fn send(&mut self, sent: Sent) {
        self.sent.push_back(sent);
    }

    /// The picture that was sent last, for what only turns out afterwards.
    pub(crate) fn last_sent(&mut self) -> Option<&mut Sent> {
        self.sent.back_mut()
    }

    /// The frame in the connection's bytes from `start` to `end` is to have this effect (`u64::MAX`: when the next has come).
    pub(crate) fn mark(&mut self, start: u64, end: u64, effect: Tally) {
        let end = self.due(end);
        self.marks.iter_mut().filter(|mark| mark.end == u64::MAX).for_each(|mark| mark.end = end);
        self.marks.push_back(Mark { start, end, effect });
    }

    /// What is sent from here on has an effect when it was settled that it is no chance.
    pub(crate) const fn doubt(&mut self) {
        self.is_in_doubt = true;
    }

    /// It is settled when the daemon has so many bytes of the connection.
    pub(crate) fn settle(&mut self, at: u64) {
        (self.is_in_doubt, self.settled_at) = (false, at);
        self.marks.iter_mut().filter(|mark| mark.end == u64::MAX).for_each(|mark| mark.end = at);
        let sent = self.sent.iter_mut().filter(|sent| sent.end != u64::MAX && sent.due == u64::MAX);
        sent.for_each(|sent| sent.due = at);
    }

    /// It was taken for chance: what there is of `ssrc` is lost.
    pub(crate) fn refute(&mut self, ssrc: u32) {
        (self.is_in_doubt, self.is_vague) = (false, true);
        let sent = self.sent.iter_mut().filter(|sent| sent.ssrc == ssrc && sent.due == u64::MAX);
        sent.for_each(|sent| sent.fate = Fate::Harmed);
    }

    /// When what has come by `end` has an effect.
    pub(crate) fn due(&self, end: u64) -> u64 {
        if self.is_in_doubt { u64::MAX } else { end.max(self.settled_at) }
    }

    /// From here on nobody can say how many packets are counted.
    pub(crate) const fn is_vague_now(&mut self) {
        self.is_vague = true;
    }

    /// The daemon has been given so many more bytes.
    pub(crate) fn deliver(&mut self, bytes: usize) {
        self.delivered += bytes as u64;
    }

    /// The daemon has dealt with all bytes that it was given: all that must be published is.
    pub(crate) fn check_delivered(&mut self, stats: &CameraStats) {
        // Packets of another source are not counted before it is known what they are.
        let held_from =
            self.sent.iter().find(|sent| self.is_newcomer(sent)).map_or(u64::MAX, |sent| sent.start);
        let is_certain = |mark: &Mark| mark.end <= self.delivered && mark.start < held_from;
        while self.marks.front().is_some_and(is_certain) {
            let mark = self.marks.pop_front().unwrap();
            self.since = self.since.plus(&mark.effect);
        }
        if self.is_over {
            return;
        }
        let is_whole =
            |sent: &Sent| sent.due <= self.delivered && matches!(sent.fate, Fate::Whole | Fate::Shaken);
        for (at, sent) in self.sent.iter().enumerate().take_while(|(_, sent)| sent.start < self.delivered) {
            // The first picture of another source is published when the next shows that it goes on, and with it the one before, if
            // nothing but that says that it ends.
            let is_held = |at: usize| {
                self.sent.get(at).is_some_and(|sent| self.is_newcomer(sent))
                    && !self.sent.range(at + 1..).any(is_whole)
            };
            let is_due = is_whole(sent) && !is_held(at) && !(sent.is_open && is_held(at + 1));
            assert!(
                !is_due,
                "this picture was delivered whole and not published: {}; heard was {:08x?}; sent: {:#?}",
                sent.words(),
                self.heard,
                self.words()
            );
        }
        self.check_counts(stats);
    }

    /// Whether the picture is of another source than that which was heard before it.
    fn is_newcomer(&self, sent: &Sent) -> bool {
        let heard = self.heard.or_else(|| self.sent.front().map(|first| first.ssrc));
        heard.is_some_and(|heard| heard != sent.ssrc)
    }

    /// Each packet that came is counted as what it is; of the one that is coming in nobody can say yet.
    fn check_counts(&self, stats: &CameraStats) {
        if self.is_vague {
            return;
        }
        let counted = Tally::of(stats);
        let least = self.before.plus(&self.since);
        let most = self.marks.iter().take_while(|mark| mark.start < self.delivered);
        let most = most.fold(least, |sum, mark| sum.plus(&mark.effect));
        assert!(
            counted.is_between(&least, &most),
            "counted {counted:?}, sent between {least:?} and {most:?}"
        );
    }

    /// The connection is gone, and what it brought has been dealt with.
    pub(crate) fn disconnect(&mut self, stats: &CameraStats) {
        self.check_delivered(stats);
        self.sent.clear();
        self.marks.clear();
        self.before = Tally::of(stats);
        self.since = Tally::default();
        self.is_vague = false;
        self.delivered = 0;
    }

    /// A reader that misses nothing got this unit.
    pub(crate) fn publish(&mut self, unit: &Unit<'_>, now_ns: u64, wall_ns: i64) {
        let descriptor = unit.descriptor;
        assert_eq!(descriptor.seq, self.published.len() as u64 + 1, "sequence numbers have no gaps");
        let is_it = |sent: &Sent| (sent.ssrc, sent.timestamp) == (descriptor.ssrc, descriptor.rtp_ts);
        let Some(at) = self.sent.iter().position(is_it) else {
            panic!("nobody sent this unit now: {descriptor:?}; sent: {:#?}", self.words());
        };
        for sent in self.sent.drain(..at) {
            let must = matches!(sent.fate, Fate::Whole | Fate::Shaken) && !self.is_over;
            assert!(!must, "this picture was left out: {}", sent.words());
        }
        let sent = self.sent.pop_front().unwrap();
        self.heard = Some(sent.ssrc);
        self.check_payload(&sent, unit);
        self.check_clocks(&sent, unit, now_ns, wall_ns);
        let is_damaged = descriptor.has(Flags::DAMAGED);
        self.damaged += u64::from(is_damaged);
        self.keys += u64::from(descriptor.has(Flags::KEY));
        self.bytes += unit.payload.len() as u64;
        self.published.push(Published { payload: unit.payload.to_vec(), flags: descriptor.flags });
        if !sent.is_open && sent.fate != Fate::Harmed {
            self.epoch_with_end = sent.epoch;
        }
    }

    fn check_payload(&mut self, sent: &Sent, unit: &Unit<'_>) {
        let (descriptor, is_damaged) = (unit.descriptor, unit.descriptor.has(Flags::DAMAGED));
        let is_cut = sent.end > self.delivered;
        let fate = if is_cut && sent.fate != Fate::Torn { Fate::Harmed } else { sent.fate };
        match fate {
            Fate::Whole => assert!(!is_damaged, "called damaged and was not: {}", sent.words()),
            Fate::Shaken | Fate::Torn => {}
            Fate::Huge => panic!("too large, and published: {}", sent.words()),
            Fate::Harmed => return self.check_harmed(sent, unit),
        }
        if fate == Fate::Torn {
            return;
        }
        assert!(unit.payload == sent.picture.annex_b(), "other bytes than were sent: {}", sent.words());
        assert_eq!(descriptor.has(Flags::KEY), sent.picture.is_key, "{}", sent.words());
        assert_eq!(usize::try_from(descriptor.nal_count).unwrap(), sent.picture.nals.len());
        if fate == Fate::Whole {
            assert_eq!(descriptor.lost_packets, 0, "{}", sent.words());
        } else if sent.lost_before > 0 {
            assert!(descriptor.lost_packets >= sent.lost_before, "{descriptor:?}: {}", sent.words());
        }
    }

    /// What is left of a picture are beginnings of its NAL units, and it is called damaged. Nobody can know that whole NAL units are
    /// missing before the first that came from a source, nor at the connection's end if the camera has not shown that it sends markers.
    fn check_harmed(&mut self, sent: &Sent, unit: &Unit<'_>) {
        let mut start = 0;
        let mut candidates = sent.picture.nals.iter();
        let mut all_whole = true;
        for end in unit.nal_ends {
            let end = usize::try_from(*end).unwrap();
            let nal = &unit.payload[start + 4..end];
            start = end;
            let Some(whole) = candidates.find(|whole| whole.starts_with(nal)) else {
                panic!("other bytes than were sent: {}", sent.words());
            };
            all_whole &= whole.len() == nal.len();
        }
        if !unit.descriptor.has(Flags::DAMAGED) {
            let is_cut = sent.is_open || sent.end > self.delivered;
            let is_headless = unit.nal_ends.len() < sent.picture.nals.len() && sent.picture.is_key;
            let may_be = all_whole
                && (sent.is_first
                    || (is_cut && self.epoch_with_end != sent.epoch)
                    || (is_headless && self.is_headless));
            self.is_headless |= is_headless && sent.is_first;
            assert!(may_be, "harmed, and passed for whole: {} {:?}", sent.words(), unit.nal_ends);
        }
    }

    fn check_clocks(&mut self, sent: &Sent, unit: &Unit<'_>, now_ns: u64, wall_ns: i64) {
        let descriptor = unit.descriptor;
        let is_estimated = descriptor.has(Flags::TS_ESTIMATED);
        assert_eq!(descriptor.pub_mono_ns, now_ns);
        assert!(descriptor.recv_mono_ns <= now_ns);
        if descriptor.recv_mono_ns == now_ns && descriptor.clock_source != 2 {
            assert_eq!(descriptor.wall_utc_ns, wall_ns, "without the camera's clock it is ours");
        }
        if let (2, Some(captured)) = (descriptor.clock_source, sent.captured_ns) {
            let off = descriptor.wall_utc_ns.abs_diff(captured);
            assert!(off <= 20_000 + u64::from(descriptor.wall_err_us) * 1000, "{off} ns off: {descriptor:?}");
        }
        assert!(sent.jumped || !is_estimated, "no timestamp jumped: {}", sent.words());
        let is_new = self.last.is_none_or(|last| last.timeline != descriptor.timeline);
        assert_eq!(descriptor.has(Flags::DISCONT), is_new, "DISCONT marks a new timeline: {}", sent.words());
        if let Some(last) = self.last {
            let elapsed = descriptor.media_ticks - last.ticks;
            if sent.epoch != last.epoch {
                assert!(descriptor.timeline > last.timeline, "a break is a new timeline: {}", sent.words());
                assert!(elapsed > 0, "ticks go on over breaks: {}", sent.words());
            } else if !sent.jumped {
                assert_eq!(descriptor.timeline, last.timeline, "no break: {}", sent.words());
            }
            if !is_new && !is_estimated && !last.is_estimated {
                let step = i64::from(sent.timestamp.wrapping_sub(last.timestamp).cast_signed());
                assert_eq!(elapsed, step, "ticks are exact within a timeline: {}", sent.words());
            }
        }
        let Sent { timestamp, epoch, .. } = *sent;
        let (ticks, timeline) = (descriptor.media_ticks, descriptor.timeline);
        self.last = Some(Last { ticks, timeline, timestamp, epoch, is_estimated });
    }

    fn words(&self) -> Vec<String> {
        self.sent.iter().map(Sent::words).collect()
    }
}

impl Sent {
    fn words(&self) -> String {
        let lens: Vec<usize> = self.picture.nals.iter().map(Vec::len).collect();
        let Self { fate, ssrc, timestamp, epoch, lost_before, start, end, .. } = self;
        format!(
            "{fate:?}, ssrc {ssrc:08x}, timestamp {timestamp}, epoch {epoch}, {lost_before} lost before, bytes {start}..{end}, NAL units of {lens:?}"
        )
    }
}

impl Tally {
    const fn of(stats: &CameraStats) -> Self {
        Self {
            used: stats.packets,
            lost: stats.lost_packets,
            repeated: stats.duplicate_packets,
            ignored: stats.ignored_packets,
            skipped_bytes: stats.skipped_bytes,
        }
    }

    const fn plus(&self, other: &Self) -> Self {
        Self {
            used: self.used + other.used,
            lost: self.lost + other.lost,
            repeated: self.repeated + other.repeated,
            ignored: self.ignored + other.ignored,
            skipped_bytes: self.skipped_bytes + other.skipped_bytes,
        }
    }

    fn is_between(&self, least: &Self, most: &Self) -> bool {
        (least.used..=most.used).contains(&self.used)
            && (least.lost..=most.lost).contains(&self.lost)
            && (least.repeated..=most.repeated).contains(&self.repeated)
            && (least.ignored..=most.ignored).contains(&self.ignored)
            && (least.skipped_bytes..=most.skipped_bytes).contains(&self.skipped_bytes)
    }
}
