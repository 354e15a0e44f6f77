//! The words of a stream's state line, as the producer writes and readers read them.

use crate::cursor::{AtomicU32, AtomicU64};
use crate::layout::{STREAM_STATE_OFF, StreamStateLine};
use crate::map::{Mapping, Word};

/// The state line of a mapped stream segment.
#[derive(Debug)]
pub(crate) struct StateWords<Access> {
    pub(crate) state: Word<AtomicU32, Access>,
    pub(crate) timeline: Word<AtomicU32, Access>,
    pub(crate) heartbeat_ns: Word<AtomicU64, Access>,
    pub(crate) last_seq: Word<AtomicU64, Access>,
    pub(crate) last_key_seq: Word<AtomicU64, Access>,
    pub(crate) retained_ns: Word<AtomicU64, Access>,
    pub(crate) reason: Word<AtomicU32, Access>,
}

impl<Access> StateWords<Access> {
    /// The words of `stream`; `None` when the segment ends before them.
    pub(crate) fn new(stream: &Mapping<Access>) -> Option<Self> {
        // All of the line, also what is reserved in it (§2).
        stream.bytes(STREAM_STATE_OFF, size_of::<StreamStateLine>() as u64)?;
        Some(Self {
            state: stream.word32(STREAM_STATE_OFF)?,
            timeline: stream.word32(STREAM_STATE_OFF + 4)?,
            heartbeat_ns: stream.word64(STREAM_STATE_OFF + 8)?,
            last_seq: stream.word64(STREAM_STATE_OFF + 16)?,
            last_key_seq: stream.word64(STREAM_STATE_OFF + 24)?,
            retained_ns: stream.word64(STREAM_STATE_OFF + 32)?,
            reason: stream.word32(STREAM_STATE_OFF + 40)?,
        })
    }
}
