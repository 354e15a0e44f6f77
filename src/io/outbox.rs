//! Bytes on their way to one peer: those the kernel is sending, and those that wait behind them.
//!
//! Invariant: `sending` does not change, and so does not move, while a send of it is in flight.

use super::SendError;
use crate::limits::OUTBOX_LEN_MAX;

/// What waits to be sent on one connection; at most [`OUTBOX_LEN_MAX`] bytes.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// What the kernel reads from, the first `sent` bytes of it done with.
    sending: Vec<u8>,
    sent: usize,
    /// What is sent next.
    waiting: Vec<u8>,
}

impl Outbox {
    /// Adds a copy of `bytes`, all or nothing.
    ///
    /// # Errors
    /// [`SendError::OutboxFull`] when they would exceed the limit.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        let waiting = self.len();
        if bytes.len() > OUTBOX_LEN_MAX - waiting {
            return Err(SendError::OutboxFull { waiting });
        }
        self.waiting.extend_from_slice(bytes);
        Ok(())
    }

    /// Bytes not sent yet.
    pub(super) fn len(&self) -> usize {
        self.sending.len() - self.sent + self.waiting.len()
    }

    /// What to send next; empty when there is nothing. Only called while no send is in flight.
    ///
    /// The bytes stay where they are until [`advance`](Self::advance) or [`clear`](Self::clear).
    pub(super) fn front(&mut self) -> &[u8] {
        if self.sent == self.sending.len() {
            self.sending.clear();
            self.sent = 0;
            std::mem::swap(&mut self.sending, &mut self.waiting);
        }
        self.sending.get(self.sent..).unwrap_or_default()
    }

    /// The kernel took `count` bytes of the front.
    pub(super) fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.sending.len() - self.sent);
        self.sent = (self.sent + count).min(self.sending.len());
    }

    /// Everything that was not sent, out of the box. No send is in flight.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut rest = self.front().to_vec();
        rest.append(&mut self.waiting);
        self.clear();
        rest
    }

    /// Forgets everything and keeps the memory for the slot's next connection. No send is in flight.
    pub(super) fn clear(&mut self) {
        self.sending.clear();
        self.waiting.clear();
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_and_the_front_stays_put() {
        let mut outbox = Outbox::default();
        outbox.push(b"abc").unwrap();
        let front = outbox.front().as_ptr();
        outbox.push(&[b'x'; 4000]).unwrap();
        assert_eq!(outbox.sending.as_ptr(), front, "a send is in flight from here");
        outbox.advance(1);
        assert_eq!(outbox.front(), b"bc");
        outbox.advance(2);
        assert_eq!(outbox.front(), [b'x'; 4000]);
        outbox.advance(4000);
        assert_eq!(outbox.front(), b"");
        assert_eq!(outbox.len(), 0);
    }

    #[test]
    fn what_was_not_sent_can_be_taken_out() {
        let mut outbox = Outbox::default();
        outbox.push(b"abc").unwrap();
        outbox.front();
        outbox.push(b"def").unwrap();
        outbox.advance(1);
        assert_eq!(outbox.take(), b"bcdef");
        assert_eq!((outbox.len(), outbox.take()), (0, Vec::new()));
    }

    #[test]
    fn the_limit_counts_what_is_being_sent() {
        let mut outbox = Outbox::default();
        outbox.push(&vec![0; OUTBOX_LEN_MAX]).unwrap();
        assert_eq!(outbox.push(b"x"), Err(SendError::OutboxFull { waiting: OUTBOX_LEN_MAX }));
        assert_eq!(outbox.front().len(), OUTBOX_LEN_MAX);
        assert_eq!(outbox.push(b"x"), Err(SendError::OutboxFull { waiting: OUTBOX_LEN_MAX }));
        outbox.advance(1);
        outbox.push(b"x").unwrap();
        assert!(outbox.push(b"x").is_err());
    }
}
