//! The attached streams of a reader, and the scan for one that has something.
//!
//! Two tables, entry by entry of the same streams: a scan passes over the [`Watch`]es alone, two to a cache line, so that many
//! streams with nothing to say cost a load and a compare each.

use super::StreamKey;
use super::buffer::UnitBuffer;
use super::stream::{Attachment, Taken};
use crate::cursor::{self, AtomicU32};
use crate::join::Join;
use crate::layout::RING_SLOTS_RANGE;
use crate::map::{ReadOnly, Word};

/// A stream and its place in the session.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) slot: u32,
    /// As the caller asked for it: asked again when the stream is rotated.
    pub(super) id: String,
    pub(super) join: Join,
    pub(super) epoch: u64,
    pub(super) attachment: Attachment,
    /// The slot was given back: it may be another stream's by now.
    pub(super) is_left: bool,
}

/// What a scan looks at.
#[derive(Debug)]
struct Watch {
    key: StreamKey,
    /// `tails[slot]`.
    tail: Word<AtomicU32, ReadOnly>,
    /// The low half of the attachment's head.
    head: u32,
    /// The ring's end must be looked at although its tail has not moved.
    look: bool,
}

/// All streams of a reader, in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Streams {
    watches: Vec<Watch>,
    attached: Vec<Attached>,
    /// Where the next scan begins: behind the stream that had something last, so that none starves others.
    turn: usize,
}

impl Streams {
    /// Takes a stream in, whose `tails[slot]` is `tail`. Its end is looked at by the next scan.
    pub(super) fn insert(&mut self, key: StreamKey, attached: Attached, tail: Word<AtomicU32, ReadOnly>) {
        let at = self.watches.partition_point(|watch| watch.key < key);
        let watch = Watch { key, tail, head: attached.attachment.head_low(), look: true };
        self.watches.insert(at, watch);
        self.attached.insert(at, attached);
        self.turn += usize::from(at < self.turn);
    }

    /// Lets a stream go.
    pub(super) fn remove(&mut self, key: StreamKey) -> Option<(Attached, Word<AtomicU32, ReadOnly>)> {
        let at = self.place(key)?;
        self.turn -= usize::from(at < self.turn);
        let watch = self.watches.remove(at);
        Some((self.attached.remove(at), watch.tail))
    }

    pub(super) fn get(&self, key: StreamKey) -> Option<&Attached> {
        self.attached.get(self.place(key)?)
    }

    #[cfg(test)]
    pub(super) fn get_mut(&mut self, key: StreamKey) -> Option<&mut Attached> {
        let at = self.place(key)?;
        self.attached.get_mut(at)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = StreamKey> {
        self.watches.iter().map(|watch| watch.key)
    }

    /// Whether a stream has this slot of the session.
    pub(super) fn uses(&self, slot: u32) -> bool {
        self.attached.iter().any(|stream| stream.slot == slot && !stream.is_left)
    }

    /// The next scan looks at every ring's end, and at its own tail.
    pub(super) fn look_at_all(&mut self) {
        self.watches.iter_mut().for_each(|watch| watch.look = true);
    }

    /// Looks at each ready ring once, in turn, until one has something for the caller.
    #[inline]
    pub(super) fn scan(&mut self, buffer: &mut UnitBuffer) -> Option<(StreamKey, Taken)> {
        for part in [self.turn..self.watches.len(), 0..self.turn] {
            let mut from = part.start;
            while let Some(passed) = self.watches.get(from..part.end)?.iter().position(Watch::is_ready) {
                let at = from + passed;
                from = at + 1;
                let (watch, attached) = (self.watches.get_mut(at)?, self.attached.get_mut(at)?);
                if let Some(taken) = watch.take(attached, buffer) {
                    self.turn = from;
                    return Some((watch.key, taken));
                }
            }
        }
        None
    }

    fn place(&self, key: StreamKey) -> Option<usize> {
        self.watches.binary_search_by_key(&key, |watch| watch.key).ok()
    }
}

impl Watch {
    fn is_ready(&self) -> bool {
        self.waiting() != 0 || self.look
    }

    /// Records that wait, as the session says.
    fn waiting(&self) -> u32 {
        cursor::observe_session_tail(&self.tail).wrapping_sub(self.head)
    }

    /// The next unit or end of the ring, past records that are not for the caller.
    #[inline]
    fn take(&mut self, attached: &mut Attached, buffer: &mut UnitBuffer) -> Option<Taken> {
        if attached.is_left {
            return None;
        }
        let attachment = &mut attached.attachment;
        // No ring holds more records than this. What comes while they are passed over is followed by a bell; and a producer
        // whose tails are lies takes no more of the caller's time.
        for _ in 0..*RING_SLOTS_RANGE.end() {
            let waiting = self.waiting();
            if waiting == 0 && !self.look {
                break;
            }
            let taken = if attachment.holds(waiting) {
                attachment.take_record(buffer)
            } else {
                attachment.take(buffer)
            };
            self.head = attachment.head_low();
            match taken {
                Taken::Dropped => {}
                Taken::Empty => {
                    self.look = false;
                    return None;
                }
                taken @ (Taken::Unit { .. } | Taken::Ended { .. }) => return Some(taken),
            }
        }
        None
    }
}
