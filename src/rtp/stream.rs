//! An RTP packet without padding, streamed: [`super::PacketParser`] decides which packets come here.

use super::packet::{Header, PacketError, PacketEvent};

/// Bytes of the fixed header.
pub(super) const FIXED_LEN: usize = 12;

/// Where a packet stands. `left` is what has not been taken of it, padding excluded, so
/// that comparing with it is all that keeps header fields within the packet.
#[derive(Debug, Default)]
pub(super) struct PayloadStream {
    state: State,
    /// A header that straddles two inputs.
    carry: [u8; FIXED_LEN],
    carried: usize,
    left: usize,
    /// Bytes to pass over in [`State::Csrc`] and [`State::Extension`].
    skip: usize,
    has_extension: bool,
    header: Header,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Fixed,
    Csrc,
    ExtensionHeader,
    Extension,
    Payload,
}

impl PayloadStream {
    pub(super) fn begin(&mut self, len: usize) {
        self.state = State::Fixed;
        self.carried = 0;
        self.left = len;
    }

    /// The packet's first two bytes. A single byte is taken from `input` into the carry.
    pub(super) fn peek_two(&mut self, input: &mut &[u8]) -> Option<[u8; 2]> {
        match (self.carry(), *input) {
            (&[], &[first, second, ..]) | (&[first], &[second, ..]) => Some([first, second]),
            _ => {
                self.gather(input, 1);
                None
            }
        }
    }

    /// Leaves `count` bytes at the packet's end out of the payload.
    pub(super) fn strip_padding(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }

    pub(super) fn has_carry(&self) -> bool {
        self.carried > 0
    }

    pub(super) fn carry(&self) -> &[u8] {
        self.carry.get(..self.carried).unwrap_or_default()
    }

    /// As [`super::PacketParser::next`].
    pub(super) fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<PacketEvent<'i>>, PacketError> {
        loop {
            match self.state {
                State::Fixed => {
                    let Some(fixed) = self.take(input)? else { return Ok(None) };
                    self.fixed(fixed)?;
                }
                State::Csrc | State::Extension if self.skip > 0 => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    self.pass_over(input);
                }
                State::Csrc if self.has_extension => self.state = State::ExtensionHeader,
                State::ExtensionHeader => {
                    let Some([_, _, high, low]) = self.take(input)? else { return Ok(None) };
                    self.skip = usize::from(u16::from_be_bytes([high, low])) * 4;
                    self.state = State::Extension;
                    self.check_skip()?;
                }
                State::Csrc | State::Extension => {
                    self.state = State::Payload;
                    self.header.payload_len = self.left;
                    return Ok(Some(PacketEvent::Header(self.header)));
                }
                State::Payload if self.left == 0 => return Ok(Some(PacketEvent::End)),
                State::Payload if input.is_empty() => return Ok(None),
                State::Payload => {
                    let (piece, rest) = input.split_at(self.left.min(input.len()));
                    *input = rest;
                    self.left -= piece.len();
                    return Ok(Some(PacketEvent::Payload(piece)));
                }
            }
        }
    }

    /// Decodes the fixed header (RFC 3550 §5.1).
    fn fixed(&mut self, bytes: [u8; FIXED_LEN]) -> Result<(), PacketError> {
        let [first, ..] = bytes;
        self.header = Header::decode(&bytes);
        self.has_extension = first & 0x10 != 0;
        self.skip = usize::from(first & 0x0f) * 4;
        self.state = State::Csrc;
        self.check_skip()
    }

    fn check_skip(&self) -> Result<(), PacketError> {
        if self.skip > self.left { Err(PacketError::Header) } else { Ok(()) }
    }

    /// Drops up to `skip` bytes.
    fn pass_over(&mut self, input: &mut &[u8]) {
        let (passed, rest) = input.split_at(self.skip.min(input.len()));
        *input = rest;
        self.skip -= passed.len();
        self.left -= passed.len();
    }

    /// Takes `N` bytes that may straddle inputs.
    fn take<const N: usize>(&mut self, input: &mut &[u8]) -> Result<Option<[u8; N]>, PacketError> {
        if self.left + self.carried < N {
            return Err(PacketError::Header);
        }
        if self.carried == 0
            && let Some((bytes, rest)) = input.split_first_chunk::<N>()
        {
            *input = rest;
            self.left -= N;
            return Ok(Some(*bytes));
        }
        self.gather(input, N - self.carried.min(N));
        let bytes = self.carry().first_chunk::<N>().copied();
        if bytes.is_some() {
            self.carried = 0;
        }
        Ok(bytes)
    }

    /// Moves up to `wanted` bytes into the carry.
    fn gather(&mut self, input: &mut &[u8], wanted: usize) {
        let (bytes, rest) = input.split_at(wanted.min(input.len()).min(self.left));
        *input = rest;
        self.left -= bytes.len();
        for &byte in bytes {
            if let Some(slot) = self.carry.get_mut(self.carried) {
                *slot = byte;
                self.carried += 1;
            }
        }
    }
}
