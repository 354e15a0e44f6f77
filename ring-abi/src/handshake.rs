//! The messages of the attach socket: fixed little-endian structs, at most [`MESSAGE_LEN_MAX`] bytes. Pure.
//!
//! Each message is one packet: a 16-byte head (u32 type, u32 length, u32 request id, u32 reserved), then the fields in the
//! order in which [`Message::encode`] puts them. A longer message than known was appended to by a newer minor version:
//! the rest is ignored. A shorter one, or text that is not UTF-8, is refused.

use crate::join::{Damaged, Filters, From, Join};
use crate::layout::{ABI_MAJOR, ABI_MINOR, Class};

/// Bytes a message may have.
pub const MESSAGE_LEN_MAX: usize = 4096;
/// Bytes of every message's head.
pub const HEAD_LEN: usize = 16;
/// Bytes of a reader's name.
pub const NAME_LEN_MAX: usize = 32;
/// Bytes of a token.
pub const TOKEN_LEN_MAX: usize = 256;
/// Bytes of a stream id.
pub const STREAM_ID_LEN_MAX: usize = 64;
/// Bytes of a refusal's text.
pub const REASON_LEN_MAX: usize = 232;

/// A short text or byte string with a fixed place in a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    len: usize,
    bytes: [u8; N],
}

impl<const N: usize> Text<N> {
    /// As much of `text` as fits, cut at a character.
    pub fn new(text: &str) -> Self {
        let len = text.floor_char_boundary(N.min(text.len()));
        let mut bytes = [0; N];
        if let (Some(to), Some(from)) = (bytes.get_mut(..len), text.as_bytes().get(..len)) {
            to.copy_from_slice(from);
        }
        Self { len, bytes }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.bytes.get(..self.len).unwrap_or(&[])).unwrap_or("")
    }
}

impl<const N: usize> std::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What a reader opens a session with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Major version the reader speaks.
    pub major: u16,
    /// Lowest minor version it needs.
    pub minor_min: u16,
    /// Highest minor version it knows.
    pub minor_max: u16,
    /// Optional features it would use.
    pub features: u64,
    /// Streams it wants to attach at once.
    pub slots: u32,
    /// Wakes it can do without for this long, µs, at most 100,000.
    pub bell_interval_us: u32,
    /// Its name, for the operator.
    pub name: Text<NAME_LEN_MAX>,
    /// What lets a reader of another user in; empty for none.
    pub token: Text<TOKEN_LEN_MAX>,
}

impl std::fmt::Debug for Hello {
    /// The token stays unsaid.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello").field("name", &self.name).field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl Hello {
    /// A greeting of this version.
    pub fn new(name: &str, slots: u32) -> Self {
        Self {
            major: ABI_MAJOR,
            minor_min: 0,
            minor_max: ABI_MINOR,
            features: 0,
            slots,
            bell_interval_us: 0,
            name: Text::new(name),
            token: Text::new(""),
        }
    }
}

/// The answer to [`Hello`]. Descriptors: session, session cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Major version spoken.
    pub major: u16,
    /// Minor version spoken.
    pub minor: u16,
    /// Streams that can be attached at once.
    pub slots: u32,
    /// Optional features granted.
    pub features: u64,
    /// Random number of the daemon's run.
    pub daemon_epoch: u64,
    /// Bell interval granted, µs.
    pub bell_interval_us: u32,
}

/// Asks for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The operator's name of the stream.
    pub stream: Text<STREAM_ID_LEN_MAX>,
    /// Where to enter, class and filters.
    pub join: Join,
}

/// A stream was attached. Descriptors: stream segment, descriptor ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Slot in the session.
    pub slot: u32,
    /// It goes on right behind the unit that `From::After` named.
    pub resumed: bool,
    /// The daemon's number of the stream.
    pub stream_uid: u64,
    /// The stream's epoch.
    pub epoch: u64,
    /// First unit that can come; `last_seq + 1` when there is none yet.
    pub first_seq: u64,
    /// Newest unit at the time.
    pub last_seq: u64,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RefusalCode {
    /// No stream has this id.
    UnknownStream = 1,
    /// The reader may not read this stream, or not open a session.
    Forbidden = 2,
    /// Sessions, slots or attachments are used up.
    Limit = 3,
    /// The versions do not overlap.
    Version = 4,
    /// The message was not understood or out of order.
    BadRequest = 5,
    /// The daemon could not: out of memory or descriptors, or shutting down.
    Unavailable = 6,
}

impl RefusalCode {
    /// The code with this number; an unknown one is [`RefusalCode::Unavailable`].
    pub const fn from_word(word: u32) -> Self {
        match word {
            1 => Self::UnknownStream,
            2 => Self::Forbidden,
            3 => Self::Limit,
            4 => Self::Version,
            5 => Self::BadRequest,
            _ => Self::Unavailable,
        }
    }
}

/// A request was refused; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub text: Text<REASON_LEN_MAX>,
}

/// A ring ended: the same is said by the ring itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Slot in the session.
    pub slot: u32,
    /// `layout::EndReason`.
    pub reason: u32,
    /// The stream's last unit.
    pub last_seq: u64,
}

/// A message of either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Reader → producer, first: opens the session.
    Hello(Hello),
    /// Producer → reader: the session is open.
    Welcome(Welcome),
    /// Reader → producer.
    Attach(Attach),
    /// Producer → reader.
    Attached(Attached),
    /// Producer → reader: answers any request.
    Refused(Refused),
    /// Reader → producer: slot to be given up.
    Detach {
        /// Slot in the session.
        slot: u32,
    },
    /// Producer → reader: no thread of the producer touches the slot any more.
    Detached {
        /// Slot in the session.
        slot: u32,
    },
    /// Producer → reader.
    Evicted(Ended),
    /// Producer → reader.
    Closed(Ended),
    /// Either side: the session ends in order.
    Bye {
        /// 0; other values are reserved.
        reason: u32,
    },
}

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than the type needs, or than the head says.
    #[error("a message of type {kind} is cut short")]
    Short {
        /// The type's number; 0 when not even the head was there.
        kind: u32,
    },
    /// A type that this version does not know; to be ignored when it comes from a newer producer.
    #[error("unknown message type {0}")]
    Unknown(u32),
    /// A length or text that cannot be.
    #[error("a field of a message of type {kind} is out of range")]
    Field {
        /// The type's number.
        kind: u32,
    },
}

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
    /// The type's number.
    pub const fn kind(&self) -> u32 {
        match self {
            Self::Hello(_) => 1,
            Self::Welcome(_) => 2,
            Self::Attach(_) => 3,
            Self::Attached(_) => 4,
            Self::Refused(_) => 5,
            Self::Detach { .. } => 6,
            Self::Detached { .. } => 7,
            Self::Evicted(_) => 8,
            Self::Closed(_) => 9,
            Self::Bye { .. } => 10,
        }
    }

    /// Descriptors that must come with the message.
    pub const fn fd_count(&self) -> usize {
        match self {
            Self::Welcome(_) | Self::Attached(_) => 2,
            Self::Hello(_)
            | Self::Attach(_)
            | Self::Refused(_)
            | Self::Detach { .. }
            | Self::Detached { .. }
            | Self::Evicted(_)
            | Self::Closed(_)
            | Self::Bye { .. } => 0,
        }
    }

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
        if usize::try_from(len).is_ok_and(|len| len > packet.len() || len < HEAD_LEN) {
            return Err(DecodeError::Short { kind });
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Message> {
        let from = From::After { epoch: 7, seq: 9 };
        let mut join = Join::new(Class::Archive, from);
        join.filters =
            Filters { keyframes_only: true, damaged: Damaged::SkipToKeyframe, tracks: 5, everything: true };
        let ended = Ended { slot: 3, reason: 1, last_seq: 77 };
        vec![
            Message::Hello(Hello { token: Text::new("secret"), ..Hello::new("vms-tap", 64) }),
            Message::Welcome(Welcome {
                major: 1,
                minor: 0,
                slots: 64,
                features: 0,
                daemon_epoch: 42,
                bell_interval_us: 10,
            }),
            Message::Attach(Attach { stream: Text::new("cam-1"), join }),
            Message::Attached(Attached {
                slot: 1,
                resumed: true,
                stream_uid: 2,
                epoch: 3,
                first_seq: 4,
                last_seq: 5,
            }),
            Message::Refused(Refused { code: RefusalCode::Limit, text: Text::new("too many") }),
            Message::Detach { slot: 8 },
            Message::Detached { slot: 9 },
            Message::Evicted(ended),
            Message::Closed(ended),
            Message::Bye { reason: 0 },
        ]
    }

    #[test]
    fn messages_survive_a_round_trip_and_no_cut_is_taken() {
        for message in all() {
            let encoded = message.encode(17);
            let bytes = encoded.as_bytes();
            assert!(bytes.len() <= MESSAGE_LEN_MAX);
            assert_eq!(Message::decode(bytes), Ok((message, 17)));
            for cut in 0..bytes.len() {
                assert!(Message::decode(&bytes[..cut]).is_err(), "{message:?} cut at {cut}");
            }
            let longer = [bytes, &[1, 2, 3]].concat();
            assert_eq!(Message::decode(&longer), Ok((message, 17)), "appended bytes are ignored");
        }
    }

    #[test]
    fn sizes_are_those_of_the_specification() {
        let sizes: Vec<_> = all().iter().map(|m| m.encode(0).as_bytes().len()).collect();
        assert_eq!(sizes, [336, 48, 144, 64, 256, 24, 24, 32, 32, 24]);
    }

    #[test]
    fn hostile_fields_are_refused() {
        let mut bytes = Message::Hello(Hello::new("x", 1)).encode(0).as_bytes().to_vec();
        bytes[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Message::decode(&bytes), Err(DecodeError::Field { kind: 1 }));
        let mut bytes = Message::Hello(Hello::new("x", 1)).encode(0).as_bytes().to_vec();
        bytes[48] = 0xff;
        assert_eq!(Message::decode(&bytes), Err(DecodeError::Field { kind: 1 }), "not UTF-8");
        bytes[0] = 99;
        assert_eq!(Message::decode(&bytes), Err(DecodeError::Unknown(99)));
    }

    #[test]
    fn a_token_is_never_shown() {
        let hello = Hello { token: Text::new("canary"), ..Hello::new("x", 1) };
        assert!(!format!("{:?}", Message::Hello(hello)).contains("canary"));
    }
}
