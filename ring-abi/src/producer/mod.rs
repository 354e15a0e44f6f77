//! The writing side of a stream: one [`Producer`], owned by one thread at a time.
//!
//! ```text
//! begin ─▶ append* ─▶ commit ─▶ feed each reader ─▶ (end of turn) ring each touched session's bell once
//! ```
//! Nothing here waits, locks or allocates per unit, and nothing a reader does changes how many steps a unit takes but for
//! one load and one compare a reader. Time comes in as nanoseconds of `CLOCK_MONOTONIC`.

mod configs;
mod feed;
mod index;
mod notify;
mod ring;
mod session;
mod track;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

pub use configs::Configuration;
pub use feed::Joined;
pub use ring::{ReaderRing, RingId};
pub use session::Session;
pub use track::{ConfigureError, UnitError};

use crate::cursor::{Ordering, Store};
use crate::layout::{
    ARENA_LEN_RANGE, CONFIG_DATA_MAX, CONFIG_ENTRY_LEN, CONFIGS_PER_TRACK, Descriptor, EndReason, Flags,
    PAGE, RECORD_ACCESS_UNIT, RECORD_DATA, Record, RingState, STREAM_DIRECTORY_OFF, STREAM_TRACKS_OFF,
    SegmentHeader, SegmentKind, StreamState, TRACKS_MAX, TrackEntry, TrackKind, pair,
};
use crate::map::{Mapping, ReadWrite};
use crate::position::{Arena, round_up};
use crate::segment::Segment;
use crate::state_words::StateWords;
use feed::StreamView;
use index::Entry;
use track::{Closed, Track, TrackPlan};

/// What a track is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackSpec {
    /// What it carries.
    pub kind: TrackKind,
    /// Ticks a second of `media_ticks`; not 0.
    pub timescale: u32,
    /// Bytes of its arena: a power of two within [`ARENA_LEN_RANGE`].
    pub arena_len: u64,
    /// Most units that it retains.
    pub units_max: usize,
}

impl TrackSpec {
    /// A video track with a 90 kHz clock and room for 4,096 units in the index.
    pub const fn video(arena_len: u64) -> Self {
        Self { kind: TrackKind::Video, timescale: 90_000, arena_len, units_max: 4096 }
    }
}

/// A unit's properties at commit; payload and NAL index aside. Field by field as in [`Descriptor`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Flags the producer's caller knows: not BACKFILL and HAS_NAL_INDEX.
    pub flags: Flags,
    /// Id that [`Producer::configure`] gave; 0 when none is known.
    pub config_id: u32,
    /// Presentation time in the track's timescale.
    pub media_ticks: i64,
    /// Incremented on each break of the media clock.
    pub timeline: u32,
    /// Packets missing within this unit or right before it.
    pub lost_packets: u32,
    /// When its first packet was received, ns.
    pub recv_mono_ns: u64,
    /// Wall-clock time of capture, ns since 1970.
    pub wall_utc_ns: i64,
    /// How far the wall-clock time may be off, µs.
    pub wall_err_us: u32,
    /// Where the wall-clock time comes from.
    pub clock_source: u8,
    /// RTP timestamp as sent.
    pub rtp_ts: u32,
    /// RTP SSRC.
    pub ssrc: u32,
    /// RTP sequence number of the first packet.
    pub first_rtp_seq: u16,
    /// RTP sequence number of the last packet.
    pub last_rtp_seq: u16,
    /// Duration in ticks; 0 when unknown.
    pub duration_ticks: u32,
}

/// Writes one stream.
///
/// It may move to another thread between any two calls, by a queue that orders what was before it before what comes after: open
/// units and readers go along, and so do the sessions that [`Producer::take_touched`] has not handed out yet. Those that it has
/// handed out the old owner rings for. Readers notice nothing (SPEC §6).
#[derive(Debug)]
pub struct Producer {
    uid: u64,
    epoch: u64,
    fd: Arc<OwnedFd>,
    words: StateWords<ReadWrite>,
    tracks: Vec<Track>,
    /// The first video track.
    video: Option<usize>,
    readers: Vec<ReaderRing>,
    last_seq: u64,
    last_config_id: u32,
    timeline: u32,
    state: StreamState,
    reason: u32,
    /// Nothing is committed any more; readers are fed what is retained, then told this.
    closing: Option<(RingState, EndReason)>,
}

impl Producer {
    /// Makes a stream's segment and touches all its pages (about a millisecond a mebibyte: not in a shard's turn).
    ///
    /// `epoch` is a random number, new for each incarnation of the stream.
    ///
    /// # Errors
    /// `InvalidInput` for no or too many tracks, or an arena length out of range; else what the system says.
    pub fn create(uid: u64, epoch: u64, tracks: &[TrackSpec]) -> io::Result<Self> {
        let (plans, size) = plan(tracks).ok_or(io::ErrorKind::InvalidInput)?;
        let header_len = u32::try_from(STREAM_TRACKS_OFF).unwrap_or(0);
        let header =
            SegmentHeader { header_len, ..SegmentHeader::new(SegmentKind::Stream, size, epoch, uid) };
        let Segment { fd, map } = Segment::create("vms-stream", &header)?;
        let tracks = lay_out(&map, &plans).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            uid,
            epoch,
            fd: Arc::new(fd),
            words: StateWords::new(&map).ok_or(io::ErrorKind::InvalidInput)?,
            video: tracks.iter().position(|track| track.kind == TrackKind::Video),
            tracks,
            readers: Vec::new(),
            last_seq: 0,
            last_config_id: 0,
            timeline: 0,
            state: StreamState::Pending,
            reason: 0,
            closing: None,
        })
    }

    /// Bytes of the segment that [`Self::create`] makes of the same tracks; `None` when it would refuse them.
    pub fn segment_len(tracks: &[TrackSpec]) -> Option<u64> {
        plan(tracks).map(|(_, size)| size)
    }

    /// The daemon's number of the stream.
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// The incarnation's random number.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The segment's descriptor, to be sent with ATTACHED.
    pub fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd)
    }

    /// Sequence number of the newest committed unit; 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Bytes of payload and NAL index that a unit of `track` may have; 0 when there is no such track.
    pub fn unit_limit(&self, track: usize) -> u64 {
        self.tracks.get(track).map_or(0, Track::payload_limit)
    }

    /// Time between the oldest and the newest retained unit of `track`, ns.
    pub fn retained_ns(&self, track: usize) -> u64 {
        self.tracks.get(track).map_or(0, Track::retained_ns)
    }

    /// Payload bytes of `track` that were copied twice: those of units that met the arena's end while they were open.
    pub fn moved_bytes(&self, track: usize) -> u64 {
        self.tracks.get(track).map_or(0, Track::moved_bytes)
    }

    /// Opens a unit on `track`; one that is still open there is dropped. Tracks are independent of each other.
    pub fn begin(&mut self, track: usize) {
        if let Some(track) = self.tracks.get_mut(track) {
            track.begin();
        }
    }

    /// Adds bytes to the open unit of `track`: the one copy that a payload byte gets.
    ///
    /// # Errors
    /// [`UnitError::TooLarge`] when the unit outgrew its limit; it stays open, and the caller aborts it.
    pub fn append(&mut self, track: usize, bytes: &[u8]) -> Result<(), UnitError> {
        self.tracks.get_mut(track).ok_or(UnitError::NotOpen)?.append(bytes)
    }

    /// Drops the open unit of `track`, if there is one.
    pub fn abort(&mut self, track: usize) {
        if let Some(track) = self.tracks.get_mut(track) {
            track.abort();
        }
    }

    /// Publishes the open unit of `track` and feeds the readers; its sequence number.
    ///
    /// # Errors
    /// [`UnitError`]; the unit is gone and took no sequence number.
    pub fn commit(
        &mut self,
        track: usize,
        unit: &Unit,
        nal_ends: &[u32],
        now_ns: u64,
    ) -> Result<u64, UnitError> {
        let at = track;
        let is_closing = self.closing.is_some();
        let track = self.tracks.get_mut(at).filter(|_| !is_closing).ok_or(UnitError::NotOpen)?;
        let seq = self.last_seq + 1;
        let closed = track.close(nal_ends)?;
        let d = describe(unit, seq, at, track, &closed, now_ns);
        let record = Record::new(&d);
        let entry = Entry::new(seq, d.pos, d.recv_mono_ns, Flags(d.flags));
        track.retain(entry, &record);
        self.last_seq = seq;
        self.announce(at, &d, now_ns);
        let view = view(&self.tracks, self.epoch, self.last_seq, self.closing, now_ns);
        for ring in &mut self.readers {
            if !feed::feed_newest(ring, &view, at, entry, &record) {
                feed::feed(ring, &view);
            }
        }
        Ok(seq)
    }

    /// Whether a unit is open on `track`.
    pub fn is_open(&self, track: usize) -> bool {
        self.tracks.get(track).is_some_and(Track::is_open)
    }

    /// Makes `configuration` the current one of `track`; its id. The same content keeps its id while it is in the table.
    ///
    /// # Errors
    /// [`ConfigureError`] when it does not fit or there is no such track.
    pub fn configure(
        &mut self,
        track: usize,
        configuration: &Configuration<'_>,
    ) -> Result<u32, ConfigureError> {
        let len = configuration.data.len();
        if len > CONFIG_DATA_MAX {
            return Err(ConfigureError::TooLarge { len });
        }
        let track = self.tracks.get_mut(track).ok_or(ConfigureError::NoTrack)?;
        let id = match track.reuse_config(configuration) {
            Some(id) => id,
            None => {
                self.last_config_id += 1;
                track.write_config(self.last_config_id, configuration);
                self.last_config_id
            }
        };
        self.note_change();
        Ok(id)
    }

    /// Sets the stream's state and the caller's number of its reason. A closed stream stays closed.
    pub fn set_state(&mut self, state: StreamState, reason: u32) {
        if self.state == StreamState::Closed || (state, reason) == (self.state, self.reason) {
            return;
        }
        (self.state, self.reason) = (state, reason);
        self.words.reason.store(reason, Ordering::Relaxed);
        self.words.state.store(state as u32, Ordering::Release);
        self.note_change();
    }

    /// The stream's state.
    pub fn state(&self) -> StreamState {
        self.state
    }

    /// Shows readers that the producer lives.
    pub fn heartbeat(&mut self, now_ns: u64) {
        self.words.heartbeat_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Takes a reader in and feeds it.
    pub fn attach(&mut self, mut ring: ReaderRing, now_ns: u64) -> Joined {
        let view = view(&self.tracks, self.epoch, self.last_seq, self.closing, now_ns);
        let joined = feed::join(&mut ring, &view);
        feed::feed(&mut ring, &view);
        self.readers.push(ring);
        joined
    }

    /// Lets a reader go: its ring ends with [`EndReason::Detached`] and is given back, for its mapping to be freed elsewhere.
    pub fn detach(&mut self, id: RingId) -> Option<ReaderRing> {
        let at = self.readers.iter().position(|ring| ring.id() == id)?;
        let mut ring = self.readers.swap_remove(at);
        ring.finish(RingState::Closed, EndReason::Detached, self.last_seq);
        // The ring leaves, so nobody would collect its session at the turn's end.
        if std::mem::take(&mut ring.touched) && ring.session.ring_bell() {
            ring.session.wake();
        }
        Some(ring)
    }

    /// The readers, evicted and finished ones included until they are detached.
    pub fn readers(&self) -> &[ReaderRing] {
        &self.readers
    }

    /// Feeds readers whose backlog is due; when to call again, on the clock of `now_ns`.
    pub fn feed(&mut self, now_ns: u64) -> Option<u64> {
        let view = view(&self.tracks, self.epoch, self.last_seq, self.closing, now_ns);
        for ring in &mut self.readers {
            if ring.pace.due_ns.is_some_and(|due| due <= now_ns) {
                feed::feed(ring, &view);
            }
        }
        self.next_feed()
    }

    /// When [`Producer::feed`] is due; `None` while no reader has a backlog.
    pub fn next_feed(&self) -> Option<u64> {
        self.readers.iter().filter_map(|ring| ring.pace.due_ns).min()
    }

    /// Hands each session that a reader of was written for to `visit`, once a reader, and forgets it.
    pub fn take_touched(&mut self, mut visit: impl FnMut(&Arc<Session>)) {
        for ring in self.readers.iter_mut().filter(|ring| ring.touched) {
            ring.touched = false;
            visit(&ring.session);
        }
    }

    /// Ends the stream. Readers that have all are finished now, others when they have drained what is retained
    /// (keep calling [`Producer::feed`]) or at [`Producer::finish`].
    pub fn close(&mut self, reason: u32, now_ns: u64) {
        for track in &mut self.tracks {
            track.abort();
        }
        self.closing = Some((RingState::Closed, EndReason::StreamClosed));
        self.set_state(StreamState::Closed, reason);
        self.feed_all(now_ns);
    }

    /// Goes on in `fresh`'s segment from the next unit on: same epoch, next seq, same configuration. Gives the writer of the segment
    /// until now: no unit goes there any more, and its readers are to be fed what is retained ([`Producer::feed`]) until
    /// [`Producer::is_drained`]; then they are told to attach again (SPEC §9.3).
    ///
    /// # Errors
    /// `fresh` comes back when it is of another stream or epoch, or was used, or when a unit is open: rotate between units.
    pub fn rotate(&mut self, mut fresh: Self, now_ns: u64) -> Result<Self, Box<Self>> {
        let fits = (fresh.uid, fresh.epoch, fresh.tracks.len()) == (self.uid, self.epoch, self.tracks.len());
        let is_unused = fresh.last_seq == 0 && fresh.readers.is_empty();
        if !fits || !is_unused || self.closing.is_some() || self.tracks.iter().any(Track::is_open) {
            return Err(Box::new(fresh));
        }
        fresh.take_over(self, now_ns);
        let mut old = std::mem::replace(self, fresh);
        old.closing = Some((RingState::Rotated, EndReason::Revoked));
        old.set_state(StreamState::Closed, 0);
        old.feed_all(now_ns);
        Ok(old)
    }

    /// Stands where `old` stands, with nothing retained.
    fn take_over(&mut self, old: &Self, now_ns: u64) {
        (self.last_seq, self.last_config_id) = (old.last_seq, old.last_config_id);
        (self.timeline, self.state, self.reason) = (old.timeline, old.state, old.reason);
        for (track, before) in self.tracks.iter_mut().zip(&old.tracks) {
            track.take_over(before);
        }
        let words = &self.words;
        let last_key_seq = self.tracks.iter().map(Track::key_seq).max().unwrap_or(0);
        words.last_key_seq.store(last_key_seq, Ordering::Relaxed);
        words.heartbeat_ns.store(now_ns, Ordering::Relaxed);
        words.timeline.store(self.timeline, Ordering::Release);
        words.last_seq.store(self.last_seq, Ordering::Release);
        words.reason.store(self.reason, Ordering::Relaxed);
        words.state.store(self.state as u32, Ordering::Release);
    }

    /// Whether no reader is waiting for anything.
    pub fn is_drained(&self) -> bool {
        self.readers.iter().all(|ring| ring.state() != RingState::Ok)
    }

    /// Ends every ring at once; what was not delivered counts as lost at the reader.
    pub fn finish(&mut self) {
        self.set_state(StreamState::Closed, 0);
        let (state, reason) = *self.closing.get_or_insert((RingState::Closed, EndReason::StreamClosed));
        for ring in &mut self.readers {
            ring.finish(state, reason, self.last_seq);
        }
    }

    fn feed_all(&mut self, now_ns: u64) {
        let view = view(&self.tracks, self.epoch, self.last_seq, self.closing, now_ns);
        for ring in &mut self.readers {
            feed::feed(ring, &view);
        }
    }

    /// Brings the state line up to a committed unit of track `at`.
    fn announce(&mut self, at: usize, d: &Descriptor, now_ns: u64) {
        let words = &self.words;
        if d.has(Flags::KEY) {
            words.last_key_seq.store(d.seq, Ordering::Relaxed);
        }
        if Some(at) == self.video {
            words.retained_ns.store(self.retained_ns(at), Ordering::Relaxed);
        }
        words.heartbeat_ns.store(now_ns, Ordering::Relaxed);
        words.last_seq.store(d.seq, Ordering::Release);
        if d.timeline != self.timeline {
            self.timeline = d.timeline;
            words.timeline.store(d.timeline, Ordering::Release);
            self.note_change();
        }
    }

    fn note_change(&mut self) {
        for ring in &mut self.readers {
            ring.session.note_change();
            ring.touched = true;
        }
    }
}

impl Drop for Producer {
    /// Readers learn that nothing more comes.
    fn drop(&mut self) {
        self.finish();
        self.take_touched(|session| {
            if session.ring_bell() {
                session.wake();
            }
        });
    }
}

fn view(
    tracks: &[Track],
    epoch: u64,
    last_seq: u64,
    closing: Option<(RingState, EndReason)>,
    now_ns: u64,
) -> StreamView<'_> {
    StreamView { tracks, epoch, last_seq, closing, now_ns }
}

/// Where everything goes: track entries, configuration tables, arenas; and the segment's size.
fn plan(tracks: &[TrackSpec]) -> Option<(Vec<TrackPlan>, u64)> {
    let count = tracks.len() as u64;
    if tracks.is_empty() || tracks.len() > TRACKS_MAX {
        return None;
    }
    let entry_len = size_of::<TrackEntry>() as u64;
    let configs_len = u64::from(CONFIGS_PER_TRACK) * u64::from(CONFIG_ENTRY_LEN);
    let configs_off = round_up(STREAM_TRACKS_OFF + count * entry_len, PAGE);
    let mut arena_off = configs_off + count * configs_len;
    let mut plans = Vec::with_capacity(tracks.len());
    for (n, spec) in (0u64..).zip(tracks) {
        let arena = Arena::new(spec.arena_len).filter(|a| ARENA_LEN_RANGE.contains(&a.len()))?;
        plans.push(TrackPlan {
            kind: spec.kind,
            timescale: spec.timescale.max(1),
            arena,
            index_max: spec.units_max,
            entry_off: STREAM_TRACKS_OFF + n * entry_len,
            configs_off: configs_off + n * configs_len,
            arena_off,
        });
        arena_off += arena.len();
    }
    Some((plans, arena_off))
}

/// Writes directory and track entries, and takes hold of the tracks.
fn lay_out(map: &Mapping<ReadWrite>, plans: &[TrackPlan]) -> Option<Vec<Track>> {
    let entry_len = u32::try_from(size_of::<TrackEntry>()).ok()?;
    let count = u32::try_from(plans.len()).ok()?;
    let directory = map.bytes(STREAM_DIRECTORY_OFF, 64)?;
    let mut whole = directory.write_words(0, &[pair(count, entry_len), STREAM_TRACKS_OFF]);
    for plan in plans {
        let words = [
            pair(plan.kind as u32, plan.timescale),
            plan.arena_off,
            plan.arena.len(),
            plan.configs_off,
            pair(CONFIGS_PER_TRACK, CONFIG_ENTRY_LEN),
        ];
        whole &= map.bytes(plan.entry_off, 64)?.write_words(0, &words);
    }
    if whole { plans.iter().map(|plan| Track::new(map, plan)).collect() } else { None }
}

/// Inlined, so that the fields go from registers into the record: stored one by one and loaded as words of a record right after,
/// each would wait for the stores.
#[inline(always)]
fn describe(unit: &Unit, seq: u64, at: usize, track: &mut Track, closed: &Closed, now_ns: u64) -> Descriptor {
    let own = Flags::BACKFILL.with(Flags::HAS_NAL_INDEX).0;
    let index = if closed.nal_count > 0 { Flags::HAS_NAL_INDEX.0 } else { 0 };
    let flags = unit.flags.0 & !own | index;
    Descriptor {
        seq,
        pos: closed.pos(),
        len: closed.payload_len,
        flags,
        record_type: if track.kind == TrackKind::Video { RECORD_ACCESS_UNIT } else { RECORD_DATA },
        track: u16::try_from(at).unwrap_or(u16::MAX),
        config_id: track.note_config(unit.config_id),
        media_ticks: unit.media_ticks,
        pts_ns: pts_ns(unit.media_ticks, track.timescale),
        timeline: unit.timeline,
        lost_packets: unit.lost_packets,
        key_seq: track.note_key(seq, Flags(flags)),
        recv_mono_ns: unit.recv_mono_ns,
        pub_mono_ns: now_ns,
        wall_utc_ns: unit.wall_utc_ns,
        wall_err_us: unit.wall_err_us,
        clock_source: unit.clock_source,
        reserved: [0; 3],
        rtp_ts: unit.rtp_ts,
        ssrc: unit.ssrc,
        first_rtp_seq: unit.first_rtp_seq,
        last_rtp_seq: unit.last_rtp_seq,
        nal_count: closed.nal_count,
        nal_off: closed.nal_off,
        duration_ticks: unit.duration_ticks,
        // Each reader's own.
        filtered: 0,
    }
}

/// Ticks in nanoseconds, rounded towards zero; saturates at the ends of time.
fn pts_ns(ticks: i64, timescale: u32) -> i64 {
    match timescale {
        // All video's. Divisions by a number that the compiler knows are multiplications; two others take longer than a reader.
        90_000 => scaled_ns(ticks, 90_000),
        other => scaled_ns(ticks, other),
    }
}

#[inline(always)]
fn scaled_ns(ticks: i64, timescale: u32) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    let scale = i64::from(timescale.max(1));
    let (seconds, rest) = (ticks / scale, ticks % scale);
    // Less than a second has less than 2^32 ticks, so their product fits. Both parts have the sign of `ticks`.
    let ns = seconds.checked_mul(SECOND).and_then(|ns| ns.checked_add(rest * SECOND / scale));
    ns.unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::pts_ns;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn wide(ticks: i64, timescale: u32) -> i64 {
        let ns = i128::from(ticks) * 1_000_000_000 / i128::from(timescale.max(1));
        i64::try_from(ns).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
    }

    #[test]
    fn the_ends_of_time() {
        for ticks in [0, 1, -1, 90_000, -90_001, i64::MAX, i64::MAX - 1, i64::MIN, i64::MIN + 1] {
            for timescale in [0, 1, 7, 90_000, 1_000_000_000, 1_000_000_001, u32::MAX] {
                assert_eq!(pts_ns(ticks, timescale), wide(ticks, timescale), "{ticks} at {timescale}");
            }
        }
    }

    proptest! {
        #[test]
        fn as_if_calculated_with_128_bits(ticks in any::<i64>(), shift in 0u32..63, timescale in any::<u32>()) {
            prop_assert_eq!(pts_ns(ticks >> shift, timescale), wide(ticks >> shift, timescale));
        }
    }
}
