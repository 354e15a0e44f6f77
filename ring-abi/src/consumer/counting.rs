//! What became of every unit, computed by the reader. Pure.
//!
//! Invariant, from the first accepted unit on: `accepted + rejected + skipped + lost + filtered = last_seq − first + 1`.

/// Counts of one attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sequence number of the first accepted unit, or of the one behind the last of an attachment that was resumed; 0 before.
    pub first_seq: u64,
    /// Sequence number up to which all is accounted for.
    pub last_seq: u64,
    /// Units given to the caller.
    pub accepted: u64,
    /// Units whose payload was overwritten before it was copied, or whose record was not plausible.
    pub rejected: u64,
    /// Video units dropped here to wait for a keyframe after a loss.
    pub skipped: u64,
    /// Units that never came.
    pub lost: u64,
    /// Units withheld by this reader's filters.
    pub filtered: u64,
}

impl Counts {
    /// These and those of a later attachment: the sums; the numbers are those of the later one.
    #[must_use]
    pub const fn and(self, later: Self) -> Self {
        Self {
            accepted: self.accepted + later.accepted,
            rejected: self.rejected + later.rejected,
            skipped: self.skipped + later.skipped,
            lost: self.lost + later.lost,
            filtered: self.filtered + later.filtered,
            ..later
        }
    }

    /// Whether the counts account for every unit from `first_seq` to `last_seq`.
    pub fn balance(&self) -> bool {
        let all = match self.last_seq.checked_sub(self.first_seq) {
            Some(between) if self.first_seq != 0 => between + 1,
            Some(_) | None => 0,
        };
        self.accepted + self.rejected + self.skipped + self.lost + self.filtered == all
    }
}

/// What the reader did with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Rejected,
    Skipped,
}

/// Follows the records of one ring.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counting {
    counts: Counts,
    /// `filtered` of the newest record.
    filtered: u64,
}

impl Counting {
    /// Counting of an attachment that goes on behind `seq` without a loss.
    pub(crate) fn resumed_after(seq: u64) -> Self {
        // No unit has the highest number; who asks for what is behind it gets nothing.
        let seq = seq.min(u64::MAX - 1);
        let counts = Counts { first_seq: seq + 1, last_seq: seq, ..Counts::default() };
        Self { counts, filtered: 0 }
    }

    /// Counting in the ring that follows this one, which has ended: its `filtered` begins at 0.
    pub(crate) fn in_next_ring(self) -> Self {
        Self { filtered: 0, ..self }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn has_begun(&self) -> bool {
        self.counts.first_seq != 0
    }

    /// Units missing right before the record `seq` with `filtered`; 0 before the first accepted one.
    /// A record that goes backwards is the producer's bug and counts as nothing missing.
    pub(crate) fn lost_before(&self, seq: u64, filtered: u64) -> u64 {
        if !self.has_begun() {
            return 0;
        }
        let between = seq.saturating_sub(self.counts.last_seq).saturating_sub(1);
        between - filtered.saturating_sub(self.filtered).min(between)
    }

    /// Counts a record and what is missing before it.
    pub(crate) fn record(&mut self, seq: u64, filtered: u64, outcome: Outcome) {
        if !self.has_begun() {
            if outcome != Outcome::Accepted {
                return;
            }
            self.counts.first_seq = seq;
            self.counts.last_seq = seq.saturating_sub(1);
            self.filtered = filtered;
        }
        if seq <= self.counts.last_seq {
            return;
        }
        self.advance(seq, filtered, 1);
        match outcome {
            Outcome::Accepted => self.counts.accepted += 1,
            Outcome::Rejected => self.counts.rejected += 1,
            Outcome::Skipped => self.counts.skipped += 1,
        }
    }

    /// Counts what is missing at the ring's end.
    pub(crate) fn end(&mut self, last_seq: u64, filtered: u64) {
        if self.has_begun() && last_seq > self.counts.last_seq {
            self.advance(last_seq, filtered, 0);
        }
    }

    /// Accounts for all above `last_seq` up to `seq`, of which the newest `own` are counted by the caller.
    fn advance(&mut self, seq: u64, filtered: u64, own: u64) {
        let between = seq - self.counts.last_seq - own;
        let withheld = filtered.saturating_sub(self.filtered).min(between);
        self.counts.filtered += withheld;
        self.counts.lost += between - withheld;
        self.counts.last_seq = seq;
        self.filtered = filtered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_accounted_for() {
        let mut counting = Counting::default();
        counting.record(3, 1, Outcome::Rejected);
        assert_eq!(counting.counts(), Counts::default(), "nothing counts before the first accepted unit");
        counting.record(5, 2, Outcome::Accepted);
        assert_eq!(counting.lost_before(9, 3), 2, "6 to 8 are missing, one of them was filtered");
        counting.record(9, 3, Outcome::Skipped);
        counting.record(10, 3, Outcome::Rejected);
        counting.end(14, 5);
        let counts = counting.counts();
        assert_eq!((counts.first_seq, counts.last_seq), (5, 14));
        assert_eq!((counts.accepted, counts.rejected, counts.skipped), (1, 1, 1));
        assert_eq!((counts.lost, counts.filtered), (4, 3));
        assert!(counts.balance());
    }

    #[test]
    fn a_resumed_attachment_counts_from_where_it_was() {
        let mut counting = Counting::resumed_after(7);
        assert_eq!(counting.lost_before(8, 0), 0);
        counting.record(9, 0, Outcome::Accepted);
        assert_eq!(counting.counts().lost, 1);
        assert!(counting.counts().balance());
    }

    #[test]
    fn absurd_records_do_not_unbalance() {
        let mut counting = Counting::default();
        counting.record(5, 0, Outcome::Accepted);
        counting.record(4, u64::MAX, Outcome::Accepted);
        counting.record(u64::MAX, u64::MAX, Outcome::Rejected);
        assert!(counting.counts().accepted == 1 && counting.counts().rejected == 1);
        assert!(counting.counts().balance());
        assert!(Counting::resumed_after(u64::MAX).counts().balance());
    }
}
