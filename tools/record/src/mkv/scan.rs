//! Reads a recording that was not finished: what of it is whole, and what a finished header would say.

use std::io::{self, Read};

use crc32fast::Hasher;

use super::checkpoint::{CHECKPOINT_LEN, Checkpoint};
use super::cues::{Cues, SeekPoint};
use super::ebml;
use super::header::{HEADER_LEN_MAX, HeaderFacts, WrittenHeader};
use super::muxer::{Finished, Times};

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The file without what is behind its last good checkpoint: cut it to `len` bytes, then write the header.
    pub finished: Finished,
    /// What its header says.
    pub facts: HeaderFacts,
    /// Epoch and number of the last unit that is in it; `None` when there is no unit.
    pub last: Option<(u64, u64)>,
}

/// Why a file cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is none of ours, or was cut off or torn before its first piece was on the disk.
    #[error("the file has no whole header of a recording")]
    Header,
}

/// Reads a file from its begin.
///
/// # Errors
/// [`ScanError`].
pub fn scan(file: &mut impl Read) -> Result<Recovered, ScanError> {
    let mut begin = Vec::new();
    // The header tells its own length, so it is read in steps.
    let header = loop {
        let before = begin.len();
        file.by_ref().take(HEADER_STEP).read_to_end(&mut begin)?;
        if let Some(header) = WrittenHeader::read(&begin) {
            break header;
        }
        if begin.len() == before || begin.len() > HEADER_LEN_MAX {
            return Err(ScanError::Header);
        }
    };
    let rest = begin.split_off(header.len());
    let good_len = header.len() as u64;
    let found = Found { good_len, times: Times::default(), cues: Cues::new(header.cues_max()), last: None };
    let input = Input { file: Read::chain(&*rest, file), buffer: Vec::new(), start: 0 };
    let scanner = Scanner {
        input,
        position: good_len,
        crc: Hasher::new(),
        cluster: (0, 0),
        ahead: found.clone(),
        good: found,
    };
    let found = scanner.run()?;
    let facts = header.facts().ok_or(ScanError::Header)?;
    Ok(Recovered {
        facts,
        finished: Finished::new(header, found.good_len, &found.times, &found.cues),
        last: found.last,
    })
}

/// What stands up to a place in the file.
#[derive(Clone, Debug)]
struct Found {
    good_len: u64,
    times: Times,
    cues: Cues,
    last: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Scanner<R> {
    input: Input<R>,
    /// Bytes of the file in front of the input.
    position: u64,
    /// Of the bytes since the last good checkpoint.
    crc: Hasher,
    /// Where the cluster begins, and its timestamp.
    cluster: (u64, u64),
    /// Up to here.
    ahead: Found,
    /// Up to the last good checkpoint.
    good: Found,
}

impl<R: Read> Scanner<R> {
    /// Reads on until something is not as it must be.
    fn run(mut self) -> io::Result<Found> {
        while self.step()? {}
        Ok(self.good)
    }

    /// Reads an element; whether it is as it must be.
    fn step(&mut self) -> io::Result<bool> {
        let bytes = self.input.peek(PEEK_LEN)?;
        let Some(head) = ebml::head(bytes) else { return Ok(false) };
        let content = bytes.get(head.len..).unwrap_or_default();
        match (head.id, head.size) {
            (ebml::CLUSTER, None) => {
                self.cluster = (self.position, 0);
                self.pass(head.len as u64)
            }
            (ebml::TIMESTAMP, Some(size @ 1..=8)) => {
                let bytes = content.iter().take(usize::try_from(size).unwrap_or(8));
                self.cluster.1 = bytes.fold(0, |value, byte| value << 8 | u64::from(*byte));
                self.pass(head.len as u64 + size)
            }
            (ebml::SIMPLE_BLOCK, Some(size)) => {
                let Some([_, high, low, flags]) = content.first_chunk() else { return Ok(false) };
                let (cluster_at, timestamp) = self.cluster;
                let ticks = timestamp.saturating_add_signed(i16::from_be_bytes([*high, *low]).into());
                if flags & 0x80 != 0 {
                    self.ahead.cues.add(SeekPoint { ticks, cluster_at });
                }
                self.ahead.times.add(i64::try_from(ticks).unwrap_or(i64::MAX));
                self.pass((head.len as u64).saturating_add(size))
            }
            (ebml::VOID, Some(size)) => {
                let checkpoint = Checkpoint::read(content);
                self.checkpoint(checkpoint, (head.len as u64).saturating_add(size))
            }
            _ => Ok(false),
        }
    }

    /// Passes over bytes that a checkpoint's checksum covers; whether they are all there.
    fn pass(&mut self, len: u64) -> io::Result<bool> {
        self.position = self.position.saturating_add(len);
        self.input.take(len, |bytes| self.crc.update(bytes))
    }

    /// Takes over what is in front of a checkpoint whose element has `len` bytes; whether it is good.
    fn checkpoint(&mut self, checkpoint: Option<Checkpoint>, len: u64) -> io::Result<bool> {
        let crc = std::mem::take(&mut self.crc).finalize();
        let Some(checkpoint) = checkpoint else { return Ok(false) };
        if checkpoint.from != self.good.good_len || checkpoint.crc != crc || !self.input.take(len, |_| {})? {
            return Ok(false);
        }
        self.position = self.position.saturating_add(len);
        self.ahead.good_len = self.position;
        self.ahead.last = Some((checkpoint.epoch, checkpoint.seq));
        self.good.clone_from(&self.ahead);
        Ok(true)
    }
}

/// A file, read in pieces.
#[derive(Debug)]
struct Input<R> {
    file: R,
    buffer: Vec<u8>,
    /// Where in the buffer the next byte is.
    start: usize,
}

impl<R: Read> Input<R> {
    /// The next bytes, `len` of them if the file has so many.
    fn peek(&mut self, len: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.start < len {
            self.buffer.drain(..self.start);
            self.start = 0;
            self.file.by_ref().take(PIECE_LEN).read_to_end(&mut self.buffer)?;
        }
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        Ok(rest.get(..len).unwrap_or(rest))
    }

    /// Takes the next `len` bytes, in pieces; whether there were so many.
    fn take(&mut self, mut len: u64, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        while len > 0 {
            let piece = self.peek(usize::try_from(len).unwrap_or(usize::MAX).min(TAKE_LEN))?;
            if piece.is_empty() {
                return Ok(false);
            }
            each(piece);
            let taken = piece.len();
            self.start += taken;
            len -= taken as u64;
        }
        Ok(true)
    }
}

/// Longest head of an element, and what has to be seen of its content.
const PEEK_LEN: usize = 12 + CHECKPOINT_LEN;
const PIECE_LEN: u64 = 256 * 1024;
const TAKE_LEN: usize = 64 * 1024;
const HEADER_STEP: u64 = 64 * 1024;
