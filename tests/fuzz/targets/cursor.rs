//! A reader that writes anything into its cursor page, at any time, against `producer`; an honest reader of another session.
#![no_main]

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use ring_abi::join::{Filters, From, Join};
use ring_abi::layout::{
    CURSOR_HEAD_LEN, Class, Codec, DESCRIPTOR_LEN, DESCRIPTOR_WORDS, Descriptor, Flags, RING_HEAD_LEN,
    STREAM_TRACKS_OFF, StreamState,
};
use ring_abi::producer::{Configuration, Producer, ReaderRing, RingId, Session, TrackSpec, Unit};
use rustix::io::{pread, pwrite};
use vms_fuzz::{Result, Unstructured, number};

const ARENA_LEN: u64 = 64 * 1024;
const SLOTS: u32 = 2;
/// Records that the producer pushes for one reader in one call, of which an operation makes up to nine.
const PUSHED_MAX: u64 = 128;

fuzz_target!(|data: &[u8]| {
    let mut world = World::new();
    // Ends with the input.
    let _ = world.run(&mut Unstructured::new(data));
    world.end();
});

struct World {
    producer: Producer,
    hostile: Arc<Session>,
    hostile_cursor: OwnedFd,
    /// The rings of the hostile session, by slot.
    rings: Vec<Option<RingId>>,
    honest: Honest,
    config_id: u32,
}

impl World {
    fn new() -> Self {
        let spec = TrackSpec { units_max: 64, ..TrackSpec::video(ARENA_LEN) };
        let mut producer = Producer::create(1, 2, &[spec]).unwrap();
        let honest = Honest::attach(&mut producer);
        let hostile = Session::create(2, 7, SLOTS).unwrap();
        let hostile_cursor = hostile.fds()[1].try_clone_to_owned().unwrap();
        let rings = (0..SLOTS).map(|slot| Some(attach(&mut producer, &hostile, slot, &everything(), 0)));
        let rings = rings.collect();
        Self { producer, hostile, hostile_cursor, rings, honest, config_id: 0 }
    }

    fn run(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        while !input.is_empty() {
            let before = self.pushed();
            match input.int_in_range(0..=9)? {
                0..=2 => {
                    // Some at a time, so that short inputs fill a ring.
                    for _ in 0..input.int_in_range(1..=9u8)? {
                        self.commit(input)?;
                        self.honest.take_all();
                    }
                }
                3 | 4 => {
                    let slot = input.int_in_range(0..=u64::from(SLOTS) - 1)?;
                    let head = number(input, before.iter().flatten().copied().max().unwrap_or(0))?;
                    self.put(CURSOR_HEAD_LEN + slot * 8, head);
                }
                5 => {
                    let offset = input.int_in_range(0..=4096 / 8 - 1)? * 8;
                    let value = input.arbitrary()?;
                    self.put(offset, value);
                }
                6 => {
                    self.producer.feed(number(input, 0)?);
                }
                7 => self.attach_or_detach(input)?,
                8 => self.configure(input)?,
                _ => self.producer.set_state(StreamState::Stalled, input.arbitrary()?),
            }
            self.ring_bells();
            for (now, before) in self.pushed().into_iter().zip(before) {
                let (now, before) = (now.unwrap_or(0), before.unwrap_or(0));
                assert!(now.saturating_sub(before) <= 9 * PUSHED_MAX, "{before} {now}");
            }
            self.honest.take_all();
        }
        Ok(())
    }

    fn commit(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let len = usize::from(input.arbitrary::<u16>()?) % 8000;
        let flags = if input.ratio(1, 3)? { Flags::KEY } else { Flags(0) };
        let seq = self.producer.last_seq() + 1;
        self.producer.begin(0);
        self.producer.append(0, &payload(seq, len)).unwrap();
        if input.ratio(1, 16)? {
            self.producer.abort(0);
            return Ok(());
        }
        let unit = Unit { flags, config_id: self.config_id, recv_mono_ns: seq, ..Unit::default() };
        self.producer.commit(0, &unit, &[], seq * 1_000_000).unwrap();
        self.honest.expected.push_back((seq, len));
        Ok(())
    }

    fn attach_or_detach(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let slot = input.int_in_range(0..=SLOTS - 1)?;
        if let Some(ring) = self.rings[slot as usize].take() {
            assert!(self.producer.detach(ring).is_some());
            return Ok(());
        }
        let from = match input.int_in_range(0..=4)? {
            0 => From::Live,
            1 => From::Keyframe,
            2 => From::Oldest,
            3 => From::Preroll { ns: number(input, 100)? },
            _ => From::After { epoch: 2, seq: number(input, self.producer.last_seq())? },
        };
        let class = if input.arbitrary()? { Class::Live } else { Class::Archive };
        let lag_max_ns = number(input, 10)?;
        let filters = Filters { everything: input.arbitrary()?, ..Filters::of_class(class) };
        let join = Join { filters, ring_slots: input.arbitrary()?, lag_max_ns, ..Join::new(class, from) };
        let now_ns = number(input, 0)?;
        self.rings[slot as usize] = Some(attach(&mut self.producer, &self.hostile, slot, &join, now_ns));
        Ok(())
    }

    fn configure(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        let data = [input.int_in_range(0..=11u8)?; 16];
        let (codec, frame_rate) = (Codec::H264, (25, 1));
        let (profile, level, width, height) = (1, 2, 3, 4);
        let configuration = Configuration { codec, data: &data, profile, level, width, height, frame_rate };
        self.config_id = self.producer.configure(0, &configuration).unwrap();
        Ok(())
    }

    /// Records pushed to each hostile ring.
    fn pushed(&self) -> Vec<Option<u64>> {
        let of = |id| self.producer.readers().iter().find(|ring| ring.id() == id).map(ReaderRing::pushed);
        self.rings.iter().map(|id| id.and_then(of)).collect()
    }

    fn put(&self, offset: u64, value: u64) {
        assert_eq!(pwrite(&self.hostile_cursor, &value.to_le_bytes(), offset).unwrap(), 8);
    }

    fn ring_bells(&mut self) {
        self.producer.take_touched(|session| {
            if session.ring_bell() {
                session.wake();
            }
        });
    }

    fn end(mut self) {
        self.producer.close(1, 0);
        self.producer.finish();
        assert!(self.producer.is_drained());
        self.honest.take_all();
        assert!(self.honest.expected.is_empty(), "the honest reader has not got all");
    }
}

/// A reader that keeps up, written against the descriptors alone: reads and writes of files.
struct Honest {
    stream: Arc<OwnedFd>,
    ring: OwnedFd,
    cursor: OwnedFd,
    arena_off: u64,
    head: u64,
    /// Units committed and not taken yet: number and length.
    expected: VecDeque<(u64, usize)>,
}

impl Honest {
    fn attach(producer: &mut Producer) -> Self {
        let session = Session::create(1, 7, 1).unwrap();
        let cursor = session.fds()[1].try_clone_to_owned().unwrap();
        let (ring, fd) = ReaderRing::create(1, 2, &everything(), &session, 0).unwrap();
        producer.attach(ring, 0);
        let stream = producer.fd();
        let arena_off = word(&stream, STREAM_TRACKS_OFF + 8);
        Self { stream, ring: fd, cursor, arena_off, head: 0, expected: VecDeque::new() }
    }

    fn take_all(&mut self) {
        let tail = word(&self.ring, 128);
        while self.head < tail {
            let at = RING_HEAD_LEN + self.head % 8 * DESCRIPTOR_LEN;
            let words: [u64; DESCRIPTOR_WORDS] = std::array::from_fn(|n| word(&self.ring, at + n as u64 * 8));
            let d = Descriptor::from_words(&words);
            let (seq, len) = self.expected.pop_front().expect("a record for each unit");
            assert_eq!((d.seq, d.len as usize), (seq, len));
            let mut copy = vec![0; len];
            let read = pread(&self.stream, &mut copy, self.arena_off + d.pos % ARENA_LEN).unwrap();
            assert!(read == len && copy == payload(seq, len), "unit {seq} is not what was published");
            self.head += 1;
            assert_eq!(pwrite(&self.cursor, &self.head.to_le_bytes(), CURSOR_HEAD_LEN).unwrap(), 8);
        }
        assert!(self.expected.is_empty(), "a unit did not come at once");
    }
}

/// A small ring, and all that is committed from now on.
fn everything() -> Join {
    let filters = Filters { everything: true, ..Filters::of_class(Class::Archive) };
    Join { filters, ring_slots: 8, ..Join::new(Class::Archive, From::Live) }
}

fn attach(producer: &mut Producer, session: &Arc<Session>, slot: u32, join: &Join, now_ns: u64) -> RingId {
    let (ring, _) = ReaderRing::create(1, 2, join, session, slot).unwrap();
    let id = ring.id();
    producer.attach(ring, now_ns);
    id
}

fn word(fd: &OwnedFd, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    assert_eq!(pread(fd, &mut bytes, offset).unwrap(), 8);
    u64::from_le_bytes(bytes)
}

fn payload(seq: u64, len: usize) -> Vec<u8> {
    seq.to_le_bytes().into_iter().cycle().take(len).collect()
}
