//! What is counted: cases, and the phases of a unit's way.
//!
//! Each phase is a function that is never inlined, so that the profile has its name and all that it costs, whatever the compiler
//! does below it. Its own call belongs to the count.

use anyhow::Result;

use crate::camera::{Camera, Received};
use crate::pair::Pair;

/// Units that are published before those that are counted: twice round the largest index, so that each new unit takes an
/// old one's place.
const WARM_UP: usize = 10_000;
/// Units that are counted.
const UNITS: usize = 10_000;
/// Units that are published before they are taken; less than a ring's slots.
const BURST: usize = 50;
/// A camera's units, before those that are counted and then: each has fifteen packets.
const CAMERA_UNITS: usize = 1_000;
/// Bytes of a camera's unit: 4 Mbit/s at 25 a second.
pub(crate) const UNIT_LEN: usize = 20_000;

/// A function below and what it does.
pub(crate) type Phase = (&'static str, &'static str);

/// The phases of a unit in the ring, in the order in which it meets them.
const RING: [Phase; 5] = [
    ("append", "begin a unit, and its bytes"),
    ("commit", "end it and feed all readers"),
    ("bell", "collect the sessions touched and ring (a turn of one unit)"),
    ("take", "a reader's next unit: scan, copy, validate, give back"),
    ("look", "a reader's look that finds nothing"),
];

/// The phases of a unit that a camera sends; the first two are parts of the third.
const CAMERA: [Phase; 4] = [
    ("frame", "the framer alone: the bytes of a unit to payloads"),
    ("depacketize", "the depacketiser alone: its packets to NAL units, into a sink that takes no copy"),
    ("receive", "a camera's whole machine: received bytes to the committed unit, the copy included"),
    ("feed", "the end of a turn of one unit: feed one reader and ring"),
];

/// Tables, each of cases with the same phases.
pub(crate) const TABLES: [(&[Phase], &[Case]); 2] = [
    (
        &RING,
        &[
            Case::ring("descriptor alone, 1 reader", 1, 1, 0),
            Case::ring("descriptor alone, 3 readers", 3, 1, 0),
            Case::ring("64 B, 1 reader", 1, 1, 64),
            Case::ring("64 B, 3 readers", 3, 1, 64),
            Case::ring("64 B, 1 reader of 64 streams", 1, 64, 64),
        ],
    ),
    (
        &CAMERA,
        &[
            Case::camera("a camera's 20 KB, received at once", 32 * 1024, false),
            Case::camera("a camera's 20 KB, received in pieces of 1448 B", 1448, false),
            Case::camera("a camera's 20 KB, nearly all an SEI message", 32 * 1024, true),
        ],
    ),
];

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    work: Work,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Ring {
        readers: usize,
        /// Streams of each reader; the units go to one after the other.
        streams: usize,
        /// Bytes of payload; with some there is a NAL index, too.
        bytes: usize,
    },
    Camera {
        piece_len: usize,
        behind_sei: bool,
    },
}

impl Case {
    const fn ring(name: &'static str, readers: usize, streams: usize, bytes: usize) -> Self {
        Self { name, work: Work::Ring { readers, streams, bytes } }
    }

    const fn camera(name: &'static str, piece_len: usize, behind_sei: bool) -> Self {
        Self { name, work: Work::Camera { piece_len, behind_sei } }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        TABLES.iter().flat_map(|(_, cases)| *cases).find(|case| case.name == name).copied()
    }

    /// All of it, in one thread.
    pub(crate) fn work(self) -> Result<()> {
        match self.work {
            Work::Ring { readers, streams, bytes } => pass_on(readers, streams, bytes),
            Work::Camera { piece_len, behind_sei } => play(piece_len, behind_sei),
        }
    }
}

/// Publishes and takes.
fn pass_on(readers: usize, streams: usize, bytes: usize) -> Result<()> {
    let mut pair = Pair::new(readers, streams)?;
    let payload = vec![0x5a; bytes];
    for _ in 0..WARM_UP * streams / BURST {
        for _ in 0..BURST {
            pair.append(&payload)?;
            pair.commit(payload.len())?;
            pair.bell();
            pair.next_stream();
        }
        for reader in 0..readers {
            (0..BURST).try_for_each(|_| pair.take(reader))?;
            pair.look(reader)?;
        }
    }
    for _ in 0..UNITS / BURST {
        for _ in 0..BURST {
            append(&mut pair, &payload)?;
            commit(&mut pair, payload.len())?;
            bell(&mut pair);
            pair.next_stream();
        }
        for reader in 0..readers {
            (0..BURST).try_for_each(|_| take(&mut pair, reader))?;
            look(&mut pair, reader)?;
        }
    }
    Ok(())
}

/// Receives and publishes.
fn play(piece_len: usize, behind_sei: bool) -> Result<()> {
    let mut camera = Camera::new()?;
    let mut received = Received::new(UNIT_LEN, piece_len, behind_sei);
    for _ in 0..CAMERA_UNITS {
        camera.send(&mut received);
        camera.frame(&received)?;
        camera.depacketize(&received)?;
        camera.receive(&received)?;
        camera.feed();
        camera.take()?;
    }
    for _ in 0..CAMERA_UNITS {
        camera.send(&mut received);
        frame(&mut camera, &received)?;
        depacketize(&mut camera, &received)?;
        receive(&mut camera, &received)?;
        feed(&mut camera);
        camera.take()?;
    }
    Ok(())
}

#[inline(never)]
fn append(pair: &mut Pair, payload: &[u8]) -> Result<()> {
    pair.append(payload)
}

#[inline(never)]
fn commit(pair: &mut Pair, len: usize) -> Result<()> {
    pair.commit(len)
}

#[inline(never)]
fn bell(pair: &mut Pair) {
    pair.bell();
}

#[inline(never)]
fn take(pair: &mut Pair, reader: usize) -> Result<()> {
    pair.take(reader)
}

#[inline(never)]
fn look(pair: &mut Pair, reader: usize) -> Result<()> {
    pair.look(reader)
}

#[inline(never)]
fn frame(camera: &mut Camera, received: &Received) -> Result<()> {
    camera.frame(received)
}

#[inline(never)]
fn depacketize(camera: &mut Camera, received: &Received) -> Result<()> {
    camera.depacketize(received)
}

#[inline(never)]
fn receive(camera: &mut Camera, received: &Received) -> Result<()> {
    camera.receive(received)
}

#[inline(never)]
fn feed(camera: &mut Camera) {
    camera.feed();
}
