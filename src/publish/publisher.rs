//! One stream's writer: the sink of its depacketiser, in shared memory.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ring_abi::layout::{self, CONFIG_DATA_MAX, Class, Flags, RingState, StreamState};
use ring_abi::producer::{
    Configuration, ConfigureError, Joined, Producer, ReaderRing, RingId, TrackSpec, Unit, UnitError,
};

use super::rotation::{Rotation, Successor};
use super::{Bells, VIDEO};
use crate::codec::{
    AccessUnit, AccessUnitSink, AppendError, Codec, CommitError, ConfigError, ConfigId, ParameterSets,
    UnitFlags, VideoFormat,
};
use crate::ids::StreamUid;
use crate::time::Mono;

/// What a stream has published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Units committed.
    pub units: u64,
    /// Of these, keyframes.
    pub keyframes: u64,
    /// Payload bytes committed.
    pub bytes: u64,
    /// Payload bytes that were copied a second time, because their unit met the arena's end.
    pub moved_bytes: u64,
    /// Units refused because they, or their number of NAL units, were too large.
    pub units_too_large: u64,
    /// Parameter sets refused because they were too large.
    pub configs_too_large: u64,
    /// Sequence number of the newest unit.
    pub last_seq: u64,
    /// Time between the oldest and the newest retained unit, ns.
    pub retained_ns: u64,
    /// Readers attached, without evicted ones.
    pub readers: u32,
    /// Readers of these that have not been given all there is.
    pub readers_behind: u32,
    /// Readers evicted since the stream was set up.
    pub evicted: u64,
    /// Units that readers were not given, all of them together, those included that have gone; see [`ReaderStats::lost_units`].
    pub lost_units: u64,
}

/// One reader of a stream, since it attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderStats {
    /// Its ring.
    pub ring: RingId,
    /// What it asked to be treated as.
    pub class: Class,
    /// How its ring ended, if it has.
    pub state: RingState,
    /// Units that it was given.
    pub units: u64,
    /// Units that its filter withheld.
    pub filtered_units: u64,
    /// Units that it was not given beside those: overwritten before it had made room, or left out because it is to stay live.
    pub lost_units: u64,
    /// How often units were so missing between two that it was given.
    pub gaps: u64,
    /// Units that it was given and has not said to have read.
    pub unread_units: u64,
    /// Whether units wait for it to make room.
    pub is_behind: bool,
}

impl ReaderStats {
    fn of(ring: &ReaderRing) -> Self {
        Self {
            ring: ring.id(),
            class: ring.join().class,
            state: ring.state(),
            units: ring.pushed(),
            filtered_units: ring.filtered(),
            lost_units: ring.lost_units(),
            gaps: ring.gaps(),
            unread_units: ring.unread(),
            is_behind: ring.is_behind(),
        }
    }
}

/// Writes one stream's units into its segment and feeds its readers.
#[derive(Debug)]
pub struct Publisher {
    producer: Producer,
    now: Mono,
    /// What the latest parameter sets say.
    format: Option<VideoFormat>,
    /// Payload bytes of the open unit.
    open_len: u64,
    units: u64,
    keyframes: u64,
    bytes: u64,
    units_too_large: u64,
    configs_too_large: u64,
    /// Evicted readers that were detached since, or went with a segment that was left.
    evicted_gone: u64,
    /// What readers lost that are gone in the same ways.
    lost_gone: u64,
    rotation: Rotation,
}

impl Publisher {
    /// Makes the stream's segment with an arena of `arena_len` bytes and touches all of it: milliseconds, so not in a turn.
    ///
    /// `epoch` is a random number, new for each incarnation of the stream.
    ///
    /// # Errors
    /// `InvalidInput` unless `arena_len` is a power of two of at least 64 KiB; else what the system says.
    pub fn create(uid: StreamUid, epoch: u64, arena_len: usize) -> io::Result<Self> {
        let producer = Producer::create(uid.0, epoch, &[TrackSpec::video(arena_len as u64)])?;
        Ok(Self {
            producer,
            now: Mono::default(),
            format: None,
            open_len: 0,
            units: 0,
            keyframes: 0,
            bytes: 0,
            units_too_large: 0,
            configs_too_large: 0,
            evicted_gone: 0,
            lost_gone: 0,
            rotation: Rotation::default(),
        })
    }

    /// Bytes of the segment that [`Self::create`] makes; `None` when it would refuse the arena's length.
    pub fn segment_len(arena_len: usize) -> Option<u64> {
        Producer::segment_len(&[TrackSpec::video(arena_len as u64)])
    }

    /// The stream.
    pub fn uid(&self) -> StreamUid {
        StreamUid(self.producer.uid())
    }

    /// The incarnation's random number.
    pub fn epoch(&self) -> u64 {
        self.producer.epoch()
    }

    /// The segment's descriptor, to be sent to readers.
    pub fn fd(&self) -> Arc<OwnedFd> {
        self.producer.fd()
    }

    /// Tells the time of the turn. Units are stamped with it.
    pub fn set_now(&mut self, now: Mono) {
        self.now = now;
    }

    /// Sets what readers see of the stream, with the number of its reason (`StateReason` of the API; 0 for none).
    pub fn set_state(&mut self, state: StreamState, reason: u32) {
        self.producer.heartbeat(self.now.as_nanos());
        self.producer.set_state(state, reason);
    }

    /// Takes a reader in and gives it what it is entitled to so far.
    pub fn attach(&mut self, ring: ReaderRing) -> Joined {
        self.producer.attach(ring, self.now.as_nanos())
    }

    /// Lets a reader go. The ring is given back to be dropped on another thread: unmapping takes a system call.
    pub fn detach(&mut self, id: RingId) -> Option<ReaderRing> {
        let ring = self.producer.detach(id).or_else(|| self.rotation.detach(id))?;
        self.evicted_gone += u64::from(ring.state() == RingState::Evicted);
        self.lost_gone += ring.lost_units();
        Some(ring)
    }

    /// Gives readers that were behind what they have room for; when to call again.
    pub fn feed(&mut self) -> Option<Mono> {
        self.producer.feed(self.now.as_nanos());
        self.rotation.feed(self.now);
        self.rotation.switch(&mut self.producer, self.now);
        self.poll_timeout()
    }

    /// When [`Publisher::feed`] is due; `None` while no reader is behind and no segment waits.
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.producer.next_feed().map(Mono).into_iter().chain(self.rotation.poll_timeout()).min()
    }

    /// Adds the sessions that were written for since the last call to `bells`. They must be rung within the turn.
    pub fn take_touched(&mut self, bells: &mut Bells) {
        self.producer.take_touched(|session| bells.touch(session));
        self.rotation.take_touched(bells);
    }

    /// Goes on in `successor`'s segment from the next unit on, so that who is not let in there sees no more:
    /// [`Publisher::take_moved`] tells. A stream stays in a segment for at least a second, so that readers which follow it there lose
    /// nothing; until then `successor` waits.
    ///
    /// Readers drain the segment until now and attach again. Who is behind is fed from it for about as long as units are retained,
    /// at most for `linger_max`, and not beyond the next move; then [`Publisher::take_released`] gives its memory back.
    ///
    /// # Errors
    /// `successor` comes back when another waits already, which does as well.
    pub fn rotate(&mut self, successor: Successor, linger_max: Duration) -> Result<(), Successor> {
        self.rotation.prepare(successor, linger_max)?;
        self.rotation.switch(&mut self.producer, self.now);
        Ok(())
    }

    /// Whether the stream has gone to another segment since the last call.
    pub const fn take_moved(&mut self) -> bool {
        self.rotation.take_moved()
    }

    /// Memory that is no longer used since the last [`Publisher::feed`], to be dropped on another thread: unmapping an arena takes
    /// milliseconds. To be asked for once a turn.
    pub fn take_released(&mut self) -> Option<Successor> {
        let released = self.rotation.take_released()?;
        let evicted = released.readers().iter().filter(|ring| ring.state() == RingState::Evicted).count();
        self.evicted_gone += evicted as u64;
        self.lost_gone += released.readers().iter().map(ReaderRing::lost_units).sum::<u64>();
        Some(released)
    }

    /// Ends the stream. Readers that are behind go on with what is retained: keep feeding until
    /// [`Publisher::is_drained`], or drop the publisher to end them at once.
    pub fn close(&mut self, reason: u32) {
        self.producer.close(reason, self.now.as_nanos());
    }

    /// Whether every reader has had all it can have.
    pub fn is_drained(&self) -> bool {
        self.producer.is_drained() && !self.rotation.is_feeding()
    }

    /// What the latest parameter sets say; `None` before the first.
    pub const fn format(&self) -> Option<VideoFormat> {
        self.format
    }

    /// What was published so far.
    pub fn counters(&self) -> Counters {
        let rings = || self.producer.readers().iter().chain(self.rotation.readers());
        let count = |state| u32::try_from(rings().filter(|r| r.state() == state).count()).unwrap_or(u32::MAX);
        let behind = rings().filter(|r| r.is_behind()).count();
        Counters {
            units: self.units,
            keyframes: self.keyframes,
            bytes: self.bytes,
            moved_bytes: self.producer.moved_bytes(VIDEO),
            units_too_large: self.units_too_large,
            configs_too_large: self.configs_too_large,
            last_seq: self.producer.last_seq(),
            retained_ns: self.producer.retained_ns(VIDEO),
            readers: count(RingState::Ok),
            readers_behind: u32::try_from(behind).unwrap_or(u32::MAX),
            evicted: self.evicted_gone + u64::from(count(RingState::Evicted)),
            lost_units: self.lost_gone + rings().map(ReaderRing::lost_units).sum::<u64>(),
        }
    }

    /// The readers, those included that were evicted and have not detached.
    pub fn readers(&self) -> impl Iterator<Item = ReaderStats> {
        self.producer.readers().iter().chain(self.rotation.readers()).map(ReaderStats::of)
    }

    fn limit(&self) -> usize {
        usize::try_from(self.producer.unit_limit(VIDEO)).unwrap_or(usize::MAX)
    }
}

impl AccessUnitSink for Publisher {
    fn begin(&mut self) {
        self.open_len = 0;
        self.producer.begin(VIDEO);
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        match self.producer.append(VIDEO, bytes) {
            Ok(()) => {
                self.open_len += bytes.len() as u64;
                Ok(())
            }
            Err(UnitError::NotOpen) => Err(AppendError::NotOpen),
            Err(UnitError::TooLarge { .. } | UnitError::TooManyNals { .. }) => {
                self.units_too_large += 1;
                Err(AppendError::TooLarge { limit: self.limit() })
            }
        }
    }

    fn commit(&mut self, unit: &AccessUnit<'_>) -> Result<(), CommitError> {
        let committed = self.producer.commit(VIDEO, &ring_unit(unit), unit.nal_ends, self.now.as_nanos());
        self.rotation.switch(&mut self.producer, self.now);
        match committed {
            Ok(_) => {
                self.units += 1;
                self.keyframes += u64::from(unit.flags.contains(UnitFlags::KEY));
                self.bytes += self.open_len;
                Ok(())
            }
            Err(UnitError::NotOpen) => Err(CommitError::NotOpen),
            Err(UnitError::TooLarge { .. } | UnitError::TooManyNals { .. }) => {
                self.units_too_large += 1;
                Err(CommitError::TooLarge { limit: self.limit() })
            }
        }
    }

    fn abort(&mut self) {
        self.producer.abort(VIDEO);
        self.rotation.switch(&mut self.producer, self.now);
    }

    fn configure(&mut self, sets: &ParameterSets<'_>) -> Result<ConfigId, ConfigError> {
        let configuration = Configuration {
            codec: match sets.codec {
                Codec::H264 => layout::Codec::H264,
                Codec::H265 => layout::Codec::H265,
            },
            data: sets.annex_b,
            profile: sets.profile.into(),
            level: sets.level.into(),
            width: sets.width,
            height: sets.height,
            frame_rate: sets.frame_rate,
        };
        self.format = Some(sets.format());
        self.producer.configure(VIDEO, &configuration).map(ConfigId).map_err(|error| {
            self.configs_too_large += 1;
            match error {
                ConfigureError::TooLarge { len } => ConfigError::TooLarge { len, limit: CONFIG_DATA_MAX },
                ConfigureError::NoTrack => ConfigError::TooLarge { len: sets.annex_b.len(), limit: 0 },
            }
        })
    }
}

fn ring_unit(unit: &AccessUnit<'_>) -> Unit {
    Unit {
        flags: Flags(unit.flags.0),
        config_id: unit.config.map_or(0, |id| id.0),
        media_ticks: unit.media_ticks,
        timeline: unit.timeline,
        lost_packets: unit.lost_packets,
        recv_mono_ns: unit.received.as_nanos(),
        wall_utc_ns: unit.wall.0,
        wall_err_us: unit.wall_error_us,
        clock_source: unit.clock_source as u8,
        rtp_ts: unit.rtp_timestamp,
        ssrc: unit.ssrc,
        first_rtp_seq: unit.first_rtp_sequence,
        last_rtp_seq: unit.last_rtp_sequence,
        duration_ticks: 0,
    }
}

// The sink's flag bits are the ABI's.
const _: () = {
    assert!(UnitFlags::KEY.0 == Flags::KEY.0 && UnitFlags::RECOVERY_POINT.0 == Flags::RECOVERY_POINT.0);
    assert!(UnitFlags::DISCONT.0 == Flags::DISCONT.0 && UnitFlags::DAMAGED.0 == Flags::DAMAGED.0);
    assert!(
        UnitFlags::CONFIG_CHANGED.0 == Flags::CONFIG_CHANGED.0 && UnitFlags::NON_REF.0 == Flags::NON_REF.0
    );
    assert!(UnitFlags::TS_ESTIMATED.0 == Flags::TS_ESTIMATED.0);
    assert!(crate::limits::NALS_PER_UNIT_MAX <= layout::NALS_PER_UNIT_MAX);
    assert!(crate::limits::PARAMETER_SETS_LEN_MAX <= CONFIG_DATA_MAX);
};

#[cfg(test)]
mod tests {
    use ring_abi::join::{From, Join};

    use super::*;
    use crate::limits::{ARENA_LEN_DEFAULT, LINGER_MAX, UNIT_LEN_MAX};

    #[test]
    fn a_stream_that_ends_is_drained_when_the_readers_of_the_segment_before_are_too() {
        let arena = 64 * 1024;
        let mut publisher = Publisher::create(StreamUid(1), 1, arena).unwrap();
        let session = ring_abi::producer::Session::create(1, 1, 1).unwrap();
        let join = Join { ring_slots: 8, ..Join::new(Class::Archive, From::Oldest) };
        let (ring, _) = ReaderRing::create(1, 1, &join, &session, 0).unwrap();
        publisher.attach(ring);
        for _ in 0..12 {
            publisher.producer.begin(VIDEO);
            let unit = Unit { flags: Flags::KEY, ..Unit::default() };
            publisher.producer.commit(VIDEO, &unit, &[], 0).unwrap();
        }
        publisher.rotate(Successor::create(StreamUid(1), 1, arena).unwrap(), LINGER_MAX).unwrap();
        assert!(publisher.take_moved() && !publisher.take_moved(), "told once");
        publisher.close(0);
        publisher.feed();
        assert!(!publisher.is_drained(), "its ring is full");
        assert_eq!(publisher.counters().readers_behind, 1);
        publisher.set_now(publisher.poll_timeout().unwrap() + Duration::from_secs(1));
        publisher.feed();
        assert!(publisher.is_drained() && publisher.take_released().is_some());
    }

    #[test]
    fn the_limit_that_is_told_is_the_one_that_is_kept() {
        let mut publisher = Publisher::create(StreamUid(1), 1, ARENA_LEN_DEFAULT).unwrap();
        publisher.begin();
        publisher.append(&vec![0; UNIT_LEN_MAX]).unwrap();
        assert!(matches!(publisher.append(&[0]), Err(AppendError::TooLarge { limit: UNIT_LEN_MAX })));
    }
}
