//! Producer and consumer together, in one process, each with its own mappings.
#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod answers;
mod hostile;
mod lapping;
mod leases;
mod moves;
mod oracle;
mod pages;
mod path;
mod processes;
mod rotation;
mod seals;
mod slots;
pub(crate) mod steps;
mod vectors;

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::consumer::rig::{Attachment, Taken, UnitBuffer};
use crate::handshake::Attached;
use crate::join::Join;
use crate::layout::{CURSOR_HEAD_LEN, Flags};
use crate::map::{Mapping, ReadWrite};
use crate::producer::{Joined, Producer, ReaderRing, RingId, Session, TrackSpec, Unit};
use crate::segment::open_cursor;

/// A stream, a session, and what the reader's side of them maps.
pub(crate) struct Rig {
    pub(crate) producer: Producer,
    pub(crate) session: Arc<Session>,
    pub(crate) cursor: Mapping<ReadWrite>,
    /// What units are committed with.
    pub(crate) config_id: u32,
}

/// A reader of the rig's stream.
pub(crate) struct Tap {
    pub(crate) ring: RingId,
    pub(crate) joined: Joined,
    pub(crate) attachment: Attachment,
    pub(crate) buffer: UnitBuffer,
}

impl Rig {
    pub(crate) fn new(arena_len: u64, units_max: usize) -> Self {
        let spec = TrackSpec { units_max, ..TrackSpec::video(arena_len) };
        Self::with_tracks(&[spec])
    }

    pub(crate) fn with_tracks(tracks: &[TrackSpec]) -> Self {
        let producer = Producer::create(1, 0xe90c, tracks).unwrap();
        let session = Session::create(1, 7, 8).unwrap();
        let [_, cursor] = session.fds().map(|fd| fd.try_clone_to_owned().unwrap());
        let (cursor, _) = open_cursor(&cursor).unwrap();
        Self { producer, session, cursor, config_id: 0 }
    }

    pub(crate) fn attach(&mut self, slot: u32, join: &Join) -> Tap {
        let (ring, fd) = ReaderRing::create(1, 0xe90c, join, &self.session, slot).unwrap();
        let id = ring.id();
        let joined = self.producer.attach(ring, self.now());
        self.open(id, &fd, joined, join)
    }

    /// A reader that nobody feeds: the test pushes its records.
    pub(crate) fn hand_made(&self, slot: u32, join: &Join) -> (Tap, ReaderRing) {
        let (ring, fd) = ReaderRing::create(1, 0xe90c, join, &self.session, slot).unwrap();
        let joined = Joined { resumed: false, first_seq: 1, last_seq: 0 };
        (self.open(ring.id(), &fd, joined, join), ring)
    }

    /// Sessions that were written for since the last call, once a reader.
    pub(crate) fn touched(&mut self) -> usize {
        let mut count = 0;
        self.producer.take_touched(|_| count += 1);
        count
    }

    fn open(&self, id: RingId, ring_fd: &OwnedFd, joined: Joined, join: &Join) -> Tap {
        let fds = [duplicate(&self.producer.fd()), duplicate(ring_fd)];
        let slot = id.slot;
        let attached = Attached {
            slot,
            resumed: joined.resumed,
            stream_uid: 1,
            epoch: 0xe90c,
            first_seq: joined.first_seq,
            last_seq: joined.last_seq,
        };
        let head = self.cursor.word64(CURSOR_HEAD_LEN + u64::from(slot) * 8).unwrap();
        let attachment = Attachment::open(&attached, join, &fds, head).unwrap();
        Tap { ring: id, joined, attachment, buffer: UnitBuffer::default() }
    }

    /// Commits a unit of `len` bytes that [`payload`] makes; 40 ms after the last.
    pub(crate) fn commit(&mut self, len: usize, flags: Flags) -> u64 {
        let seq = self.producer.last_seq() + 1;
        self.producer.begin(0);
        let bytes = payload(seq, len);
        for part in bytes.chunks(1000) {
            self.producer.append(0, part).unwrap();
        }
        let ends = [u32::try_from(len).unwrap()];
        let (config_id, recv_mono_ns) = (self.config_id, seq * 40_000_000);
        let unit = Unit { flags, config_id, recv_mono_ns, ..Unit::default() };
        self.producer.commit(0, &unit, &ends, self.now()).unwrap()
    }

    /// Commits `count` small keyframes.
    pub(crate) fn commit_keys(&mut self, count: usize) {
        for _ in 0..count {
            self.commit(10, Flags::KEY);
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.producer.last_seq() * 40_000_000
    }
}

impl Tap {
    pub(crate) fn take(&mut self) -> Taken {
        self.attachment.take(&mut self.buffer)
    }

    /// The sequence numbers of all units that wait.
    pub(crate) fn seqs(&mut self) -> Vec<u64> {
        let mut seqs = Vec::new();
        loop {
            match self.take() {
                Taken::Unit { .. } => seqs.push(self.buffer.descriptor.seq),
                Taken::Dropped => {}
                Taken::Empty | Taken::Ended { .. } => return seqs,
            }
        }
    }
}

/// Bytes that tell which unit they belong to.
pub(crate) fn payload(seq: u64, len: usize) -> Vec<u8> {
    let word = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
    word.iter().copied().cycle().take(len).collect()
}

fn duplicate(fd: &OwnedFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().unwrap()
}
