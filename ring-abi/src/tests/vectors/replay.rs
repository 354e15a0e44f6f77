//! Runs a vector's script through this crate's reader.

use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

use super::events::{Event, crc32};
use crate::consumer::rig::{Attachment, Taken, UnitBuffer};
use crate::handshake::{Attached, DecodeError, Message};
use crate::join::{Filters, From, Join};
use crate::layout::{CURSOR_HEAD_LEN, Class, HeaderError};
use crate::map::{Mapping, ReadWrite};
use crate::producer::{ReaderRing, Session};
use crate::segment::{OpenError, open_cursor};

/// Records taken in one `take`: more than any vector has, so that a reader that runs away is a failure, not a hang.
const RECORDS_MAX: usize = 100_000;

/// Seals of what a reader only reads (§2).
const SEALS: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

/// The events of each `take` and `message` of a script, in order.
pub(super) fn replay(script: &str) -> Vec<Vec<Event>> {
    let mut replay = Replay {
        files: [None, None],
        join: Join::new(Class::Archive, From::Oldest),
        reader: Reader::Closed,
        buffer: UnitBuffer::default(),
    };
    script.lines().filter_map(|line| replay.line(line.split('#').next().unwrap_or(""))).collect()
}

struct Replay {
    files: [Option<File>; 2],
    join: Join,
    reader: Reader,
    buffer: UnitBuffer,
}

enum Reader {
    Closed,
    Open(Box<Attachment>),
    Refused,
}

/// A segment as the producer would have made it.
struct File {
    fd: OwnedFd,
    /// `None` of an empty file.
    map: Option<Mapping<ReadWrite>>,
}

impl Replay {
    fn line(&mut self, line: &str) -> Option<Vec<Event>> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["size", segment, bytes] => self.files[index(segment)] = Some(File::create(bytes, SEALS)),
            ["unsealed", segment, bytes] => {
                self.files[index(segment)] = Some(File::create(bytes, SealFlags::empty()));
            }
            ["unsealed", segment, bytes, seal] => {
                self.files[index(segment)] = Some(File::create(bytes, SEALS.difference(named_seal(seal))));
            }
            ["at", segment, offset, hex] => {
                let offset = u64::from_str_radix(offset, 16).unwrap();
                let file = self.files[index(segment)].as_ref().unwrap();
                file.write(offset, &from_hex(hex));
            }
            ["attach", ref options @ ..] => options.iter().for_each(|option| self.option(option)),
            ["take"] => return Some(self.take()),
            ["message", hex] => return Some(vec![message(&from_hex(hex))]),
            _ => panic!("no line of a script: {line}"),
        }
        None
    }

    fn option(&mut self, option: &str) {
        match option.split_once('=').unwrap() {
            ("resumed_after", seq) => {
                self.join.from = From::After { epoch: 0, seq: seq.parse().unwrap() };
            }
            ("everything", bit) => {
                self.join.filters = Filters { everything: bit == "1", ..Filters::of_class(Class::Archive) };
            }
            _ => panic!("no option: {option}"),
        }
    }

    fn take(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if let Reader::Closed = self.reader {
            match self.open() {
                Ok(attachment) => self.reader = Reader::Open(Box::new(attachment)),
                Err((segment, why)) => {
                    events.push(Event::Refused { segment, why });
                    self.reader = Reader::Refused;
                }
            }
        }
        if let Reader::Open(attachment) = &mut self.reader {
            drain(attachment, &mut self.buffer, &mut events);
        }
        events
    }

    /// The stream beside a sound ring first: what fails then is the stream's fault.
    fn open(&self) -> Result<Attachment, (&'static str, &'static str)> {
        let [Some(stream), Some(ring)] = &self.files else { panic!("no segments") };
        let session = Session::create(1, 1, 1).unwrap();
        let (_, sound_ring) = ReaderRing::create(1, 1, &self.join, &session, 0).unwrap();
        let beside = |ring: &OwnedFd| self.attach(&session, &stream.fd, ring);
        beside(&sound_ring).map_err(|error| ("stream", why(&error)))?;
        beside(&ring.fd).map_err(|error| ("ring", why(&error)))
    }

    fn attach(&self, session: &Session, stream: &OwnedFd, ring: &OwnedFd) -> Result<Attachment, OpenError> {
        let [_, cursor] = session.fds().map(|fd| fd.try_clone_to_owned().unwrap());
        let (cursor, _) = open_cursor(&cursor).unwrap();
        let head = cursor.word64(CURSOR_HEAD_LEN).unwrap();
        let resumed = matches!(self.join.from, From::After { .. });
        let attached = Attached { slot: 0, resumed, stream_uid: 1, epoch: 0, first_seq: 0, last_seq: 0 };
        let fds = [stream, ring].map(|fd| fd.try_clone().unwrap());
        Attachment::open(&attached, &self.join, &fds, head)
    }
}

/// Takes all there is, and says what became of it.
fn drain(attachment: &mut Attachment, buffer: &mut UnitBuffer, events: &mut Vec<Event>) {
    for _ in 0..RECORDS_MAX {
        match attachment.take(buffer) {
            Taken::Unit { lost, config_changed } => {
                let descriptor = buffer.descriptor;
                let configuration = attachment.configuration(usize::from(descriptor.track));
                if let Some(configuration) = configuration.filter(|_| config_changed) {
                    let configuration = configuration.clone();
                    events.push(Event::Configuration { track: descriptor.track, configuration });
                }
                let (nal_ends, crc32) = (buffer.nal_ends().to_vec(), crc32(buffer.payload()));
                events.push(Event::Unit { descriptor, nal_ends, lost, crc32 });
            }
            Taken::Ended { state, reason } => events.push(Event::Ended { state, reason }),
            Taken::Dropped => {}
            Taken::Empty => {
                let (counts, status) = (attachment.counts(), attachment.status());
                return events.push(Event::Counts { counts, status });
            }
        }
    }
    panic!("the reader finds records without end");
}

fn message(packet: &[u8]) -> Event {
    match Message::decode(packet) {
        Ok((message, request)) => Event::Message { message, request },
        Err(DecodeError::Short { .. }) => Event::BadMessage { why: "short" },
        Err(DecodeError::Unknown(_)) => Event::BadMessage { why: "unknown" },
        Err(DecodeError::Field { .. }) => Event::BadMessage { why: "field" },
    }
}

/// The rule that a segment breaks.
fn why(error: &OpenError) -> &'static str {
    match error {
        OpenError::Unsealed => "seals",
        OpenError::Header(HeaderError::Magic) => "magic",
        OpenError::Header(HeaderError::Version { .. }) => "major",
        OpenError::Header(HeaderError::Features(_)) => "features",
        OpenError::Header(HeaderError::Kind { .. }) => "kind",
        OpenError::Header(HeaderError::Size { .. }) => "size",
        OpenError::Header(HeaderError::Table) => "table",
        OpenError::Io(error) => panic!("{error}"),
    }
}

impl File {
    fn create(bytes: &str, seals: SealFlags) -> Self {
        let size: u64 = bytes.parse().unwrap();
        let fd = memfd_create("vector", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, size).unwrap();
        let map = (size > 0).then(|| Mapping::read_write(&fd, usize::try_from(size).unwrap()).unwrap());
        fcntl_add_seals(&fd, seals).unwrap();
        Self { fd, map }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let map = self.map.as_ref().unwrap();
        let all = map.bytes(0, map.len()).unwrap();
        assert!(all.write(offset, bytes), "outside of the file: {offset:x}");
    }
}

fn named_seal(name: &str) -> SealFlags {
    match name {
        "shrink" => SealFlags::SHRINK,
        "grow" => SealFlags::GROW,
        "future_write" => SealFlags::FUTURE_WRITE,
        "seal" => SealFlags::SEAL,
        _ => panic!("no seal: {name}"),
    }
}

fn index(segment: &str) -> usize {
    ["stream", "ring"].iter().position(|name| *name == segment).unwrap()
}

fn from_hex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "half a byte: {hex}");
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}
