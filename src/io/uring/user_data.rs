//! The 64 bits that travel with an operation through the kernel: which one, and whose.
//!
//! ```text
//!   63      56 55            32 31                         0
//!  ┌──────────┬────────────────┬────────────────────────────┐
//!  │ operation│   slot index   │  generation of the slot    │
//!  └──────────┴────────────────┴────────────────────────────┘
//! ```

use crate::io::Token;

/// What was asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Connect a slot's socket.
    Connect,
    /// Receive on a slot's socket until it ends (multishot).
    Receive,
    /// Send the front of a slot's outbox.
    Send,
    /// Cancel operations of a slot.
    Cancel,
    /// Watch the waker's eventfd until it ends (multishot); belongs to no slot.
    Watch,
}

/// An operation and the use of a slot that it was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UserData {
    pub(super) operation: Operation,
    pub(super) token: Token,
}

/// Slot indexes have 24 bits.
pub(in crate::io) const INDEX_MAX: u32 = (1 << 24) - 1;

impl UserData {
    /// Packs into what an SQE carries.
    pub(super) fn encode(self) -> u64 {
        debug_assert!(self.token.index <= INDEX_MAX);
        let operation = match self.operation {
            Operation::Connect => 1,
            Operation::Receive => 2,
            Operation::Send => 3,
            Operation::Cancel => 4,
            Operation::Watch => 5,
        };
        operation << 56 | u64::from(self.token.index) << 32 | u64::from(self.token.generation)
    }

    /// Unpacks what a CQE carries; `None` for what [`encode`](Self::encode) never makes.
    pub(super) fn decode(bits: u64) -> Option<Self> {
        let operation = match bits >> 56 {
            1 => Operation::Connect,
            2 => Operation::Receive,
            3 => Operation::Send,
            4 => Operation::Cancel,
            5 => Operation::Watch,
            _ => return None,
        };
        let index = u32::try_from(bits >> 32 & u64::from(INDEX_MAX)).ok()?;
        let generation = u32::try_from(bits & u64::from(u32::MAX)).ok()?;
        Some(Self { operation, token: Token { index, generation } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        use Operation::{Cancel, Connect, Receive, Send, Watch};
        for operation in [Connect, Receive, Send, Cancel, Watch] {
            for index in [0, 1, INDEX_MAX] {
                for generation in [0, 7, u32::MAX] {
                    let data = UserData { operation, token: Token { index, generation } };
                    assert_eq!(UserData::decode(data.encode()), Some(data));
                }
            }
        }
        assert_eq!(UserData::decode(0), None);
        assert_eq!(UserData::decode(u64::MAX), None);
    }
}
