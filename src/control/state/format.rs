//! What a stream's file holds, and whether a file is one.
//!
//! ```text
//!  0  "vms-strm"            8 bytes
//!  8  version               u32, little-endian like the others
//! 12  length of the message u32
//! 16  its CRC-32            u32 (IEEE 802.3)
//! 20  the message           protobuf: 1 SetupStreamRequest, with its credentials; 2 Timestamp of the set-up
//! ```
//! Fields that a spec has gained since are absent in files from before, and then mean what they mean to a caller who leaves them out.
//! An older daemon passes over those that it does not know. So neither needs another version.
//!
//! The file system promises that a file is the old or the new one (it was renamed after its fsync); length and checksum tell
//! when it did not keep that, or when somebody edited the file.

use prost::Message;
use vms_proto::v1;

use super::SavedStream;
use crate::control::show;
use crate::control::spec::StreamSpec;
use crate::ids::StreamId;
use crate::limits::{REQUEST_LEN_MAX, STATE_FILE_LEN_MAX};

const MAGIC: &[u8; 8] = b"vms-strm";
const VERSION: u32 = 1;
const HEAD_LEN: usize = 20;

/// The message in a file. Its `Debug` is that of its parts, which show no secret.
#[derive(Clone, PartialEq, Message)]
struct Saved {
    #[prost(message, optional, tag = "1")]
    request: Option<v1::SetupStreamRequest>,
    #[prost(message, optional, tag = "2")]
    create_time: Option<prost_types::Timestamp>,
}

/// Why a file is no stream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    /// It does not begin as one, or is too long to be one.
    #[error("it is no stream's file")]
    NotOurs,
    /// A later version wrote it.
    #[error("it was written by a newer version of vms-media (its format is {0}, this one knows {VERSION})")]
    Newer(u32),
    /// It ends too early, or goes on too long.
    #[error("it is not complete")]
    Length,
    /// Its bytes are not those that were written.
    #[error("its checksum is wrong")]
    Checksum,
    /// What it holds cannot be followed. The text never holds a secret.
    #[error("its content cannot be followed: {0}")]
    Content(String),
}

/// The bytes of a stream's file.
pub(super) fn encode(stream: &SavedStream) -> Vec<u8> {
    let SavedStream { id, spec, created } = stream;
    let saved = Saved { request: Some(spec.request(id)), create_time: Some(show::timestamp(*created)) };
    let message = saved.encode_to_vec();
    // A spec is shorter than the request that it came in.
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEAD_LEN + message.len());
    bytes.extend_from_slice(MAGIC);
    for number in [VERSION, len, crc32fast::hash(&message)] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&message);
    bytes
}

/// The stream of the file named `name`.
///
/// # Errors
/// [`FormatError`].
pub(super) fn decode(name: &StreamId, bytes: &[u8]) -> Result<SavedStream, FormatError> {
    let (magic, rest) = bytes.split_first_chunk().ok_or(FormatError::NotOurs)?;
    if magic != MAGIC {
        return Err(FormatError::NotOurs);
    }
    let (version, rest) = number(rest)?;
    if version != VERSION {
        return Err(FormatError::Newer(version));
    }
    let (len, rest) = number(rest)?;
    let (checksum, message) = number(rest)?;
    if usize::try_from(len) != Ok(message.len()) {
        return Err(FormatError::Length);
    }
    if crc32fast::hash(message) != checksum {
        return Err(FormatError::Checksum);
    }
    let content = |why: String| FormatError::Content(why);
    let saved = Saved::decode(message).map_err(|error| content(error.to_string()))?;
    let request = saved.request.ok_or_else(|| content("there is no stream in it".to_owned()))?;
    let (id, spec) = StreamSpec::check(request).map_err(|error| content(error.to_string()))?;
    if id != *name {
        return Err(content("it is the file of another stream".to_owned()));
    }
    let created = saved.create_time.map_or_else(Default::default, |time| show::unix_nanos(&time));
    Ok(SavedStream { id, spec, created })
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), FormatError> {
    let (number, rest) = bytes.split_first_chunk().ok_or(FormatError::Length)?;
    Ok((u32::from_le_bytes(*number), rest))
}

const _: () =
    assert!(STATE_FILE_LEN_MAX >= REQUEST_LEN_MAX + HEAD_LEN + 64, "what could be set up can be kept");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::spec::tests::{CANARY, request};
    use crate::time::UnixNanos;
    use std::collections::BTreeMap;

    fn stream() -> SavedStream {
        let spec = v1::StreamSpec {
            transport: v1::Transport::Tcp.into(),
            labels: BTreeMap::from([("site".to_owned(), "north".to_owned())]),
            access: Some(v1::AccessPolicy { uids: vec![7], gids: vec![9] }),
            timeouts: Some(v1::Timeouts {
                idle: Some(prost_types::Duration { seconds: 8, nanos: 500_000_000 }),
                ..Default::default()
            }),
            retry: Some(v1::RetryPolicy { jitter_percent: Some(0), ..Default::default() }),
            ..Default::default()
        };
        let url = format!("rtsp://admin:{CANARY}%2F@[::1]:8554/live?user=u&password={CANARY}");
        let request = v1::SetupStreamRequest { spec: Some(spec), ..request("cam-1", &url) };
        let (id, spec) = StreamSpec::check(request).unwrap();
        SavedStream { id, spec, created: UnixNanos(1_700_000_000_000_000_000) }
    }

    fn why(bytes: &[u8]) -> FormatError {
        decode(&stream().id, bytes).map(drop).unwrap_err()
    }

    #[test]
    fn what_is_kept_comes_back_whole() {
        let (before, after) = (stream(), decode(&stream().id, &encode(&stream())).unwrap());
        assert_eq!(before.spec.difference(&after.spec), Vec::<&str>::new());
        assert_eq!((after.id, after.created), (before.id, before.created));
    }

    #[test]
    fn a_file_from_before_there_was_patience_is_a_stream_with_the_daemons_own() {
        // id "cam-1"; spec { url "rtsp://h/a"; credentials { "u" "p" }; transport TCP }; create_time 7 s.
        let request = b"\x0a\x05cam-1\x1a\x16\x0a\x0artsp://h/a\x12\x06\x0a\x01u\x12\x01p\x20\x02";
        let message = [&[0x0a, 0x1f], request.as_slice(), &[0x12, 0x02, 0x08, 0x07]].concat();
        let len = u32::try_from(message.len()).unwrap();
        let numbers = [1, len, crc32fast::hash(&message)].map(u32::to_le_bytes).concat();
        let kept = decode(&stream().id, &[b"vms-strm", numbers.as_slice(), &message].concat()).unwrap();
        assert_eq!((kept.spec.url.to_string().as_str(), kept.created.0), ("rtsp://h/a", 7_000_000_000));
        assert!(kept.spec.credentials.is_some());
        assert_eq!(kept.spec.patience, crate::ingest::PolicyChanges::default());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_found() {
        let whole = encode(&stream());
        for len in 0..whole.len() {
            why(&whole[..len]);
        }
        assert_eq!(why(&[whole.as_slice(), b"x"].concat()), FormatError::Length);
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            why(&changed);
        }
        let mut newer = whole.clone();
        newer[8] = 2;
        assert_eq!(why(&newer), FormatError::Newer(2));
        assert_eq!(why(b""), FormatError::NotOurs);
        assert_eq!(why(b"[camera]\nidle_timeout = 5"), FormatError::NotOurs);
    }

    #[test]
    fn a_file_under_another_name_is_no_streams() {
        let other = StreamId::new("cam-2").unwrap();
        let error = decode(&other, &encode(&stream())).map(drop).unwrap_err();
        assert!(matches!(error, FormatError::Content(_)), "{error}");
    }

    #[test]
    fn no_complaint_holds_a_secret() {
        let message =
            Saved { request: Some(request("cam-1", &format!("{CANARY}://u:{CANARY}@h"))), create_time: None };
        let message = message.encode_to_vec();
        let len = u32::try_from(message.len()).unwrap();
        let numbers = [VERSION, len, crc32fast::hash(&message)].map(u32::to_le_bytes).concat();
        let error = why(&[MAGIC.as_slice(), &numbers, &message].concat());
        assert!(matches!(error, FormatError::Content(_)), "{error}");
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
    }
}
