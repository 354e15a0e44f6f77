//! Bytes that the socket did not take yet.

/// A queue of bytes: filled at the back, sent from the front.
///
/// Invariant: `sent <= bytes.len()`, and both are 0 when the queue is empty.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    bytes: Vec<u8>,
    sent: usize,
}

impl Backlog {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be sent next.
    pub(crate) fn front(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Where more bytes are appended.
    pub(crate) const fn back(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Drops the first `count` bytes (all, when there are fewer).
    pub(crate) fn consume(&mut self, count: usize) {
        self.sent = self.bytes.len().min(self.sent.saturating_add(count));
        // Moving the rest when it is at most half keeps the cost per byte constant.
        if self.sent >= self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out() {
        let mut backlog = Backlog::default();
        backlog.back().extend(0..10);
        backlog.consume(3);
        backlog.back().extend(10..12);
        assert_eq!((backlog.len(), backlog.front()[0]), (9, 3));
        backlog.consume(5);
        assert_eq!(backlog.front(), [8, 9, 10, 11]);
        backlog.consume(usize::MAX);
        assert!(backlog.is_empty());
    }
}
