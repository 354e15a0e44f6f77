//! The floor: what any ring in shared memory costs. Records of 128 bytes, one ring a reader, a release store of the tail; the
//! payload goes by `memcpy` into an arena that is written round and round. No validation, no retention, no index,
//! no session; a reader sleeps on one futex word.

use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use rustix::event::Timespec;
use rustix::thread::futex;

use crate::peer::{Shape, Tap, Writer};
use crate::shared::{RECORD_WORDS, Region};

const SLOTS: u64 = 128;
const BELL: usize = 0;
const READERS: usize = 128;
const ARENA_LEN: usize = 136;
const RINGS: usize = 4096;
const HEAD: usize = 128;
const RECORDS: usize = 256;
const RECORD_LEN: usize = RECORD_WORDS * 8;
const RING_LEN: usize = RECORDS + SLOTS as usize * RECORD_LEN;

const fn arena_off(readers: usize) -> usize {
    (RINGS + readers * RING_LEN).next_multiple_of(4096)
}

const fn record_off(ring: usize, number: u64) -> usize {
    ring + RECORDS + (number % SLOTS) as usize * RECORD_LEN
}

/// Publishes to the floor's rings.
#[derive(Debug)]
pub(crate) struct FloorWriter {
    region: Region,
    arena: usize,
    arena_len: usize,
    pos: usize,
    seq: u64,
    /// Of each ring: the newest head that was loaded.
    heads: Vec<u64>,
}

impl FloorWriter {
    pub(crate) fn create(shape: Shape) -> Result<Self> {
        let arena = arena_off(shape.readers);
        let region = Region::create(arena + shape.arena_len)?;
        region.word(READERS).store(shape.readers as u64, Ordering::Relaxed);
        region.word(ARENA_LEN).store(shape.arena_len as u64, Ordering::Release);
        Ok(Self { region, arena, arena_len: shape.arena_len, pos: 0, seq: 0, heads: vec![0; shape.readers] })
    }
}

impl Writer for FloorWriter {
    fn publish(&mut self, payload: &[u8]) -> Result<()> {
        if self.pos + payload.len() > self.arena_len {
            self.pos = 0;
        }
        self.region.write(self.arena + self.pos, payload);
        let mut record = [0; RECORD_WORDS];
        record[0] = self.seq;
        record[1] = self.pos as u64;
        record[2] = payload.len() as u64;
        for (n, head) in self.heads.iter_mut().enumerate() {
            let ring = RINGS + n * RING_LEN;
            if self.seq - *head >= SLOTS {
                *head = self.region.word(ring + HEAD).load(Ordering::Acquire);
                ensure!(self.seq - *head < SLOTS, "the floor's ring {n} is full: the bench goes too fast");
            }
            self.region.write_record(record_off(ring, self.seq), &record);
            self.region.word(ring).store(self.seq + 1, Ordering::Release);
        }
        self.seq += 1;
        self.pos = (self.pos + payload.len()).next_multiple_of(64);
        Ok(())
    }

    fn wake(&mut self) -> Result<()> {
        let bell = self.region.word32(BELL);
        bell.fetch_add(1, Ordering::SeqCst);
        futex::wake(bell, futex::Flags::empty(), 1)?;
        Ok(())
    }

    fn admit(&mut self, _: &mut dyn FnMut() -> bool) -> Result<()> {
        Ok(())
    }

    fn place(&self) -> String {
        self.region.path().display().to_string()
    }
}

/// Reads one of the floor's rings.
#[derive(Debug)]
pub(crate) struct FloorTap {
    region: Region,
    ring: usize,
    arena: usize,
    head: u64,
    payload: Vec<u8>,
}

impl FloorTap {
    pub(crate) fn open(place: &str, number: usize) -> Result<Self> {
        let region = Region::open(place)?;
        let readers = usize::try_from(region.word(READERS).load(Ordering::Acquire))?;
        let ring = RINGS + number * RING_LEN;
        Ok(Self { region, ring, arena: arena_off(readers), head: 0, payload: Vec::new() })
    }

    fn pop(&mut self) -> bool {
        if self.region.word(self.ring).load(Ordering::Acquire) == self.head {
            return false;
        }
        let [_, pos, len, ..] = self.region.read_record(record_off(self.ring, self.head));
        self.payload.resize(len as usize, 0);
        self.region.read(self.arena + pos as usize, &mut self.payload);
        self.head += 1;
        self.region.word(self.ring + HEAD).store(self.head, Ordering::Release);
        true
    }
}

impl Tap for FloorTap {
    fn take(&mut self) -> Result<Option<&[u8]>> {
        Ok(self.pop().then_some(&*self.payload))
    }

    fn wait(&mut self) -> Result<Option<&[u8]>> {
        let seen = self.region.word32(BELL).load(Ordering::SeqCst);
        if !self.pop() {
            let timeout = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            // Every outcome means: look again.
            let _ = futex::wait(self.region.word32(BELL), futex::Flags::empty(), seen, Some(&timeout));
            return self.take();
        }
        Ok(Some(&self.payload))
    }
}
