//! The messages of the attach socket: fixed little-endian structs, at most [`MESSAGE_LEN_MAX`] bytes. Pure.
//!
//! Each message is one packet: a 16-byte head (u32 type, u32 length, u32 request id, u32 reserved), then the fields in the
//! order in which [`Message::encode`] puts them. A longer message than known was appended to by a newer minor version:
//! the rest is ignored. A shorter one, or text that is not UTF-8, is refused.

mod wire;

pub use wire::Encoded;

use crate::join::Join;
use crate::layout::{ABI_MAJOR, ABI_MINOR, FEATURE_NOTIFY_FD};

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

/// The answer to [`Hello`]. Descriptors: session, session cursor; a third when [`FEATURE_NOTIFY_FD`] is granted.
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

/// The request's number in a packet, whatever else it says; 0 when it has none.
pub fn request_of(packet: &[u8]) -> u32 {
    let field = packet.get(8..12).and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

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
            Self::Welcome(welcome) if welcome.features & FEATURE_NOTIFY_FD != 0 => 3,
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::{Damaged, Filters, From};
    use crate::layout::Class;

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
        let sizes: Vec<_> = all().iter().map(|m| (m.kind(), m.encode(0).as_bytes().len())).collect();
        assert_eq!(sizes, crate::layout::MESSAGE_SIZES);
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
