//! The bytes of each message.

use super::{
    Attach, Attached, DecodeError, Ended, HEAD_LEN, Hello, Message, RefusalCode, Refused, Text, Welcome,
};
use crate::join::{Damaged, Filters, From, Join};
use crate::layout::Class;

/// Encoded message on the stack.
#[derive(Clone, Copy)]
pub struct Encoded {
    bytes: [u8; 512],
    len: usize,
}

impl Encoded {
    /// The packet.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(to) = self.bytes.get_mut(self.len..end) {
            to.copy_from_slice(bytes);
            self.len = end;
        }
    }

    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    fn put_text<const N: usize>(&mut self, text: &Text<N>) {
        self.put(&text.bytes);
    }
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoded").field("len", &self.len).finish_non_exhaustive()
    }
}

const FILTER_KEYFRAMES_ONLY: u32 = 1;
const FILTER_SKIP_DAMAGED: u32 = 2;
const FILTER_EVERYTHING: u32 = 4;
const ATTACHED_RESUMED: u32 = 1;

impl Message {
    /// The packet. `request` ties an answer to its request; 0 for what was not asked for.
    pub fn encode(&self, request: u32) -> Encoded {
        let mut out = Encoded { bytes: [0; 512], len: 0 };
        out.put_u32(self.kind());
        out.put_u32(0);
        out.put_u32(request);
        out.put_u32(0);
        match self {
            Self::Hello(hello) => put_hello(&mut out, hello),
            Self::Welcome(welcome) => put_welcome(&mut out, welcome),
            Self::Attach(attach) => put_attach(&mut out, attach),
            Self::Attached(attached) => put_attached(&mut out, attached),
            Self::Refused(refused) => {
                out.put_u32(refused.code as u32);
                out.put_u32(u32::try_from(refused.text.len).unwrap_or(0));
                out.put_text(&refused.text);
            }
            Self::Detach { slot } | Self::Detached { slot } => {
                out.put_u32(*slot);
                out.put_u32(0);
            }
            Self::Evicted(ended) | Self::Closed(ended) => {
                out.put_u32(ended.slot);
                out.put_u32(ended.reason);
                out.put_u64(ended.last_seq);
            }
            Self::Bye { reason } => {
                out.put_u32(*reason);
                out.put_u32(0);
            }
        }
        let len = u32::try_from(out.len).unwrap_or(0);
        if let Some(field) = out.bytes.get_mut(4..8) {
            field.copy_from_slice(&len.to_le_bytes());
        }
        out
    }

    /// The message in a packet, and its request id.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no message of this version.
    pub fn decode(packet: &[u8]) -> Result<(Self, u32), DecodeError> {
        let mut input = Input { rest: packet, kind: 0 };
        let kind = input.u32()?;
        let len = input.u32()?;
        let request = input.u32()?;
        input.u32()?;
        input.kind = kind;
        // What the sender put behind the message is not of it.
        let message = usize::try_from(len).ok().and_then(|len| packet.get(HEAD_LEN..len));
        input.rest = message.ok_or(DecodeError::Short { kind })?;
        let message = match kind {
            1 => Self::Hello(take_hello(&mut input)?),
            2 => Self::Welcome(take_welcome(&mut input)?),
            3 => Self::Attach(take_attach(&mut input)?),
            4 => Self::Attached(take_attached(&mut input)?),
            5 => {
                let code = RefusalCode::from_word(input.u32()?);
                let len = input.u32()?;
                Self::Refused(Refused { code, text: input.text(len)? })
            }
            6 => Self::Detach { slot: input.u32_padded()? },
            7 => Self::Detached { slot: input.u32_padded()? },
            8 => Self::Evicted(take_ended(&mut input)?),
            9 => Self::Closed(take_ended(&mut input)?),
            10 => Self::Bye { reason: input.u32_padded()? },
            other => return Err(DecodeError::Unknown(other)),
        };
        Ok((message, request))
    }
}

fn put_hello(out: &mut Encoded, hello: &Hello) {
    out.put_u16(hello.major);
    out.put_u16(hello.minor_min);
    out.put_u16(hello.minor_max);
    out.put_u16(0);
    out.put_u64(hello.features);
    out.put_u32(hello.slots);
    out.put_u32(hello.bell_interval_us);
    out.put_u32(u32::try_from(hello.name.len).unwrap_or(0));
    out.put_u32(u32::try_from(hello.token.len).unwrap_or(0));
    out.put_text(&hello.name);
    out.put_text(&hello.token);
}

fn take_hello(input: &mut Input<'_>) -> Result<Hello, DecodeError> {
    let (major, minor_min, minor_max) = (input.u16()?, input.u16()?, input.u16()?);
    input.u16()?;
    let (features, slots, bell_interval_us) = (input.u64()?, input.u32()?, input.u32()?);
    let (name_len, token_len) = (input.u32()?, input.u32()?);
    let (name, token) = (input.text(name_len)?, input.text(token_len)?);
    Ok(Hello { major, minor_min, minor_max, features, slots, bell_interval_us, name, token })
}

fn put_welcome(out: &mut Encoded, welcome: &Welcome) {
    out.put_u16(welcome.major);
    out.put_u16(welcome.minor);
    out.put_u32(welcome.slots);
    out.put_u64(welcome.features);
    out.put_u64(welcome.daemon_epoch);
    out.put_u32(welcome.bell_interval_us);
    out.put_u32(0);
}

fn take_welcome(input: &mut Input<'_>) -> Result<Welcome, DecodeError> {
    let (major, minor, slots) = (input.u16()?, input.u16()?, input.u32()?);
    let (features, daemon_epoch) = (input.u64()?, input.u64()?);
    let bell_interval_us = input.u32_padded()?;
    Ok(Welcome { major, minor, slots, features, daemon_epoch, bell_interval_us })
}

fn put_attach(out: &mut Encoded, attach: &Attach) {
    let join = &attach.join;
    let (kind, epoch, argument) = match join.from {
        From::Live => (1, 0, 0),
        From::Keyframe => (2, 0, 0),
        From::Oldest => (3, 0, 0),
        From::Preroll { ns } => (4, 0, ns),
        From::After { epoch, seq } => (5, epoch, seq),
    };
    let filters = &join.filters;
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    let bits = bit(filters.keyframes_only, FILTER_KEYFRAMES_ONLY)
        | bit(filters.damaged == Damaged::SkipToKeyframe, FILTER_SKIP_DAMAGED)
        | bit(filters.everything, FILTER_EVERYTHING);
    out.put_u32(u32::try_from(attach.stream.len).unwrap_or(0));
    out.put_u32(kind);
    out.put_u64(epoch);
    out.put_u64(argument);
    out.put_u32(join.class as u32);
    out.put_u32(bits);
    out.put_u64(filters.tracks);
    out.put_u64(join.lag_max_ns);
    out.put_u32(join.ring_slots);
    out.put_u32(0);
    out.put_text(&attach.stream);
}

fn take_attach(input: &mut Input<'_>) -> Result<Attach, DecodeError> {
    let kind = input.kind;
    let (stream_len, from) = (input.u32()?, input.u32()?);
    let (epoch, argument) = (input.u64()?, input.u64()?);
    let (class, bits) = (Class::from_word(input.u32()?), input.u32()?);
    let (tracks, lag_max_ns) = (input.u64()?, input.u64()?);
    let ring_slots = input.u32_padded()?;
    let stream = input.text(stream_len)?;
    let from = match from {
        1 => From::Live,
        2 => From::Keyframe,
        3 => From::Oldest,
        4 => From::Preroll { ns: argument },
        5 => From::After { epoch, seq: argument },
        _ => return Err(DecodeError::Field { kind }),
    };
    let damaged = if bits & FILTER_SKIP_DAMAGED != 0 { Damaged::SkipToKeyframe } else { Damaged::Pass };
    let filters = Filters {
        keyframes_only: bits & FILTER_KEYFRAMES_ONLY != 0,
        damaged,
        tracks,
        everything: bits & FILTER_EVERYTHING != 0,
    };
    Ok(Attach { stream, join: Join { from, class, filters, ring_slots, lag_max_ns } })
}

fn put_attached(out: &mut Encoded, attached: &Attached) {
    out.put_u32(attached.slot);
    out.put_u32(if attached.resumed { ATTACHED_RESUMED } else { 0 });
    out.put_u64(attached.stream_uid);
    out.put_u64(attached.epoch);
    out.put_u64(attached.first_seq);
    out.put_u64(attached.last_seq);
    out.put_u64(0);
}

fn take_attached(input: &mut Input<'_>) -> Result<Attached, DecodeError> {
    let (slot, bits) = (input.u32()?, input.u32()?);
    let (stream_uid, epoch) = (input.u64()?, input.u64()?);
    let (first_seq, last_seq) = (input.u64()?, input.u64()?);
    input.u64()?;
    Ok(Attached { slot, resumed: bits & ATTACHED_RESUMED != 0, stream_uid, epoch, first_seq, last_seq })
}

fn take_ended(input: &mut Input<'_>) -> Result<Ended, DecodeError> {
    Ok(Ended { slot: input.u32()?, reason: input.u32()?, last_seq: input.u64()? })
}

/// What is left of a packet.
struct Input<'a> {
    rest: &'a [u8],
    kind: u32,
}

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Short { kind: self.kind })?;
        self.rest = rest;
        Ok(*field)
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        self.take().map(u64::from_le_bytes)
    }

    /// A u32 with a reserved one behind it.
    fn u32_padded(&mut self) -> Result<u32, DecodeError> {
        let value = self.u32()?;
        self.u32()?;
        Ok(value)
    }

    /// A text of `len` bytes in a place of `N`.
    fn text<const N: usize>(&mut self, len: u32) -> Result<Text<N>, DecodeError> {
        let kind = self.kind;
        let bytes: [u8; N] = self.take()?;
        let len = usize::try_from(len).map_err(|_| DecodeError::Field { kind })?;
        let text = bytes.get(..len).and_then(|used| str::from_utf8(used).ok());
        // Built anew, so that bytes behind the text do not survive.
        text.map(Text::new).ok_or(DecodeError::Field { kind })
    }
}
