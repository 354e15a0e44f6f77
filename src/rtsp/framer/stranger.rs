//! A frame that nobody expected: a packet of a source that has not sent before, found in search of the next frame; or a frame of a
//! channel that nobody set up, where a frame must begin unless the camera has cut short the one before.
//!
//! It may be chance: payload that looks like a header, whose length would take up to 64 KiB of video along. Or the camera's encoder
//! has restarted, with garbage on the way: then the packet may have the parameter sets of what follows, and must not be lost. So it
//! is kept until the next header tells: one right behind it, or one of the same source later. The search goes on over its bytes
//! meanwhile, and what is believed by itself within them refutes it.

use super::lead::FRAME_HEADER_LEN;

/// The frame of such a packet, as far as the search has passed it. Invariant: `frame.len() <= frame_len`, which a length field of
/// 16 bits limits; only a whole frame has bytes behind it.
#[derive(Debug)]
pub(super) struct Stranger {
    /// `None`: the channel is not ours, and so is what it says.
    source: Option<u32>,
    channel: u8,
    /// Header and payload.
    frame: Vec<u8>,
    /// Bytes that `frame` will have.
    frame_len: usize,
    /// Bytes passed behind the frame.
    behind: usize,
}

impl Stranger {
    /// The frame that begins with this header, of which nothing was passed yet.
    pub(super) fn new(source: Option<u32>, header: [u8; FRAME_HEADER_LEN]) -> Self {
        let [_, channel, high, low] = header;
        let frame_len = FRAME_HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
        Self { source, channel, frame: Vec::new(), frame_len, behind: 0 }
    }

    /// The search has passed these bytes.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let (frame, behind) = bytes.split_at(self.left().min(bytes.len()));
        self.frame.extend_from_slice(frame);
        self.behind += behind.len();
    }

    /// Bytes that were passed since it began.
    pub(super) fn passed(&self) -> usize {
        self.frame.len() + self.behind
    }

    /// Bytes of the frame that the search has still to pass.
    pub(super) fn left(&self) -> usize {
        self.frame_len - self.frame.len()
    }

    /// Whether what comes next stands right behind it.
    pub(super) fn ends_here(&self) -> bool {
        self.left() == 0 && self.behind == 0
    }

    /// Whether a packet of `source` that begins here tells that it is one too.
    pub(super) fn is_followed_by(&self, source: u32) -> bool {
        self.left() == 0 && self.source == Some(source)
    }

    /// Its channel, its payload, and how many bytes were passed behind it.
    pub(super) fn into_parts(mut self) -> (u8, Vec<u8>, usize) {
        self.frame.drain(..FRAME_HEADER_LEN.min(self.frame.len()));
        (self.channel, self.frame, self.behind)
    }
}
