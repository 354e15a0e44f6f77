//! Names of things: the operator's stream id and the daemon's own numbers.

use std::fmt;
use std::sync::Arc;

/// A stream's name as the caller chose it: `^[a-z0-9]([a-z0-9._-]{0,62})$`.
///
/// The alphabet is safe in a path, a URL, a metric label and a log line; `..` cannot be a whole id because the
/// first character is a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Arc<str>);

/// Why a text is no [`StreamId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a stream id has 1 to 63 characters, starts with a lower-case letter or digit and goes on with those, '.', '_' or '-'"
)]
pub struct InvalidStreamId;

impl StreamId {
    /// Longest id, in bytes.
    pub const MAX_LEN: usize = 63;

    /// Checks `text` and takes it.
    ///
    /// # Errors
    /// [`InvalidStreamId`] when the text does not match the pattern above.
    pub fn new(text: &str) -> Result<Self, InvalidStreamId> {
        let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        match text.as_bytes() {
            [first, rest @ ..]
                if alphanumeric(*first)
                    && rest.len() < Self::MAX_LEN
                    && rest.iter().all(|&b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-')) =>
            {
                Ok(Self(text.into()))
            }
            _ => Err(InvalidStreamId),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One incarnation of a stream: a number that this daemon never uses twice, so that a late message for a
/// stream that was torn down and set up again under the same id is recognised and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamUid(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_the_pattern() {
        for good in ["a", "0", "cam-1", "a.b_c-9", &"x".repeat(63)] {
            assert_eq!(StreamId::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".", "..", "A", "a/b", "a b", "é", "a\0", &"x".repeat(64)] {
            assert_eq!(StreamId::new(bad), Err(InvalidStreamId), "{bad:?}");
        }
    }
}
