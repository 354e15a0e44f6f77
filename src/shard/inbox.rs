//! Received bytes of one stream that exceed its share of a turn.
//!
//! Invariant: `done` bytes of the first buffer, and no other, have been worked on.

use std::collections::VecDeque;
use std::ops::Range;

use crate::io::{CloseReason, RecvBuf};
use crate::limits::{STREAM_BUFFERS_MAX, STREAM_BYTES_PER_TURN};

/// Buffers in order, and what came behind them.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buffers: VecDeque<RecvBuf>,
    done: usize,
    /// How the connection ended behind these bytes.
    end: Option<CloseReason>,
    /// Bytes that may still be worked on in `turn`.
    share: usize,
    turn: u64,
    /// The connection was told to stop receiving.
    is_paused: bool,
}

/// What the connection is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HoldBack {
    /// To stop receiving.
    Pause,
    /// To receive again.
    Resume,
}

impl Inbox {
    /// Bytes came.
    pub(super) fn push(&mut self, buffer: RecvBuf) {
        self.buffers.push_back(buffer);
    }

    /// The connection ended, behind what has come.
    pub(super) const fn end(&mut self, reason: CloseReason) {
        self.end = Some(reason);
    }

    /// The first time in a turn, the stream gets its share of it.
    pub(super) const fn renew_share(&mut self, turn: u64) {
        if self.turn != turn {
            self.turn = turn;
            self.share = STREAM_BYTES_PER_TURN;
        }
    }

    /// The next buffer and the part of it to work on; `None` when there is none, or no share left.
    pub(super) fn take(&mut self) -> Option<(RecvBuf, Range<usize>)> {
        if self.share == 0 {
            return None;
        }
        let buffer = self.buffers.pop_front()?;
        let start = std::mem::take(&mut self.done);
        let end = buffer.len().min(start + self.share);
        self.share -= end - start;
        Some((buffer, start..end))
    }

    /// Puts the last taken buffer back to the front, `done` bytes of it worked on. Gives it up when that is all.
    pub(super) fn put_back(&mut self, buffer: RecvBuf, done: usize) {
        if done < buffer.len() {
            self.done = done;
            self.buffers.push_front(buffer);
        }
    }

    /// How the connection ended, once all bytes were taken.
    pub(super) fn take_end(&mut self) -> Option<CloseReason> {
        if self.buffers.is_empty() { self.end.take() } else { None }
    }

    /// What to tell the connection, when that changes: the buffers that wait here are missing elsewhere.
    /// `is_throttled`: there is to come no more for now.
    pub(super) fn hold_back(&mut self, is_throttled: bool) -> Option<HoldBack> {
        if !self.is_paused && (is_throttled || self.buffers.len() >= STREAM_BUFFERS_MAX) {
            self.is_paused = true;
            Some(HoldBack::Pause)
        } else if self.is_paused && !is_throttled && self.buffers.is_empty() {
            self.is_paused = false;
            Some(HoldBack::Resume)
        } else {
            None
        }
    }

    /// Whether there is something for the next turn.
    pub(super) fn is_waiting(&self) -> bool {
        !self.buffers.is_empty() || self.end.is_some()
    }

    /// Empties it. What was used of this turn's share stays used.
    pub(super) fn clear(&mut self) {
        *self = Self { share: self.share, turn: self.turn, ..Self::default() };
    }

    /// As if the stream had had its share of `turn`.
    #[cfg(test)]
    pub(super) const fn use_up_share(&mut self, turn: u64) {
        (self.turn, self.share) = (turn, 0);
    }

    /// Whether the connection has ended behind what waits.
    #[cfg(test)]
    pub(super) const fn has_end(&self) -> bool {
        self.end.is_some()
    }

    /// Bytes that may still be worked on in this turn.
    #[cfg(test)]
    pub(super) const fn share(&self) -> usize {
        self.share
    }

    /// Whether the connection was told to stop receiving.
    pub(super) const fn is_paused(&self) -> bool {
        self.is_paused
    }
}
