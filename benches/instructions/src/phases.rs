//! What is counted: cases, and the phases of a unit's way.
//!
//! Each phase is a function that is never inlined, so that the profile has its name and all that it costs, whatever the compiler
//! does below it. Its own call belongs to the count.

use anyhow::Result;

use crate::pair::Pair;

/// Units that are published before those that are counted: twice round the largest index, so that each new unit takes an
/// old one's place.
const WARM_UP: usize = 10_000;
/// Units that are counted.
const UNITS: usize = 10_000;
/// Units that are published before they are taken; less than a ring's slots.
const BURST: usize = 50;

/// How many read how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    readers: usize,
    /// Streams of each reader; the units go to one after the other.
    streams: usize,
    /// Bytes of payload; with some there is a NAL index, too.
    bytes: usize,
}

impl Case {
    pub(crate) const ALL: [Self; 5] = [
        Self { name: "descriptor alone, 1 reader", readers: 1, streams: 1, bytes: 0 },
        Self { name: "descriptor alone, 3 readers", readers: 3, streams: 1, bytes: 0 },
        Self { name: "64 B, 1 reader", readers: 1, streams: 1, bytes: 64 },
        Self { name: "64 B, 3 readers", readers: 3, streams: 1, bytes: 64 },
        Self { name: "64 B, 1 reader of 64 streams", readers: 1, streams: 64, bytes: 64 },
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|case| case.name == name)
    }

    /// Publishes and takes, in one thread.
    pub(crate) fn work(self) -> Result<()> {
        let mut pair = Pair::new(self.readers, self.streams)?;
        let payload = vec![0x5a; self.bytes];
        for _ in 0..WARM_UP * self.streams / BURST {
            for _ in 0..BURST {
                pair.append(&payload)?;
                pair.commit(payload.len())?;
                pair.bell();
                pair.next_stream();
            }
            for reader in 0..self.readers {
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
            for reader in 0..self.readers {
                (0..BURST).try_for_each(|_| take(&mut pair, reader))?;
                look(&mut pair, reader)?;
            }
        }
        Ok(())
    }
}

/// The functions below, in the order in which a unit meets them, and what each does.
pub(crate) const PHASES: [(&str, &str); 5] = [
    ("append", "begin a unit, and its bytes"),
    ("commit", "end it and feed all readers"),
    ("bell", "collect the sessions touched and ring (a turn of one unit)"),
    ("take", "a reader's next unit: scan, copy, validate, give back"),
    ("look", "a reader's look that finds nothing"),
];

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
