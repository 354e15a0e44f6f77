//! The reading side: one [`Reader`] is one session with any number of streams. For one thread.
//!
//! ```text
//! loop { match reader.next(Some(timeout))? { Event::Unit(unit) => …, Event::Ended(_) => …, … } }
//! ```
//! A unit's payload is copied into the reader's buffer and validated before the caller sees it: a unit that was
//! overwritten meanwhile is never given out. After warm-up nothing is allocated per unit.

mod buffer;
mod counting;
mod notify;
mod retry;
mod slots;
mod stream;
mod streams;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use counting::Counts;
pub use retry::Retry;
pub use stream::{Configuration, StreamStatus};

pub use crate::client::RequestError;
use crate::client::{Client, monotonic};
use crate::cursor::{self, AtomicU32};
use crate::handshake::{self, Hello, Message, STREAM_ID_LEN_MAX, Text, Welcome};
use crate::join::{From, Join};
use crate::layout::{Descriptor, EndReason, FEATURE_NOTIFY_FD, HeaderError, RingState, SegmentKind};
use crate::map::{ReadOnly, ReadWrite, Word};
use crate::segment::{OpenError, open_cursor, open_read_only};
use buffer::UnitBuffer;
use notify::{NotifyEnd, Woken};
use slots::Slots;
use stream::{Attachment, Taken};
use streams::{Attached, Streams};

/// What the crate's own tests take hold of: an attachment without a socket.
#[cfg(test)]
pub(crate) mod rig {
    pub(crate) use super::buffer::UnitBuffer;
    pub(crate) use super::stream::{Attachment, Taken};

    impl super::Reader {
        pub(crate) fn attachment(&mut self, stream: super::StreamKey) -> Option<&mut Attachment> {
            self.streams.get_mut(stream).map(|attached| &mut attached.attachment)
        }
    }
}

/// A slot's tail in the session.
type Tail = Word<AtomicU32, ReadOnly>;

/// Longest sleep on the bell: how late a producer that died is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// How a reader introduces itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name, for the operator; at most 32 bytes are sent.
    pub name: String,
    /// Streams that it wants to attach at once.
    pub slots: u32,
    /// Wakes it can do without for this long.
    pub bell_interval: Duration,
    /// What lets a reader of another user in; empty for none.
    pub token: String,
    /// How long a request may take.
    pub timeout: Duration,
    /// To wait on a descriptor ([`Reader::notify_fd`]) instead of the bell: for event loops.
    pub notify: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: String::new(),
            slots: 256,
            bell_interval: Duration::ZERO,
            token: String::new(),
            timeout: Duration::from_secs(10),
            notify: false,
        }
    }
}

/// Why a session or an attachment was not opened.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What came with the answer cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl std::convert::From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        Self::Request(error.into())
    }
}

impl std::convert::From<HeaderError> for AttachError {
    fn from(error: HeaderError) -> Self {
        Self::Open(error.into())
    }
}

/// Names an attached stream within its reader, as long as it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(u32);

/// A whole, validated unit. Borrowed from the reader until the next call.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// The stream.
    pub stream: StreamKey,
    /// All that is known of the unit.
    pub descriptor: &'a Descriptor,
    /// Annex B bytes.
    pub payload: &'a [u8],
    /// Where each NAL unit ends in `payload`; empty when the producer gave none.
    pub nal_ends: &'a [u32],
    /// Units missing right before this one.
    pub lost: u64,
    /// [`Reader::configuration`] has changed since the last unit of its track.
    pub config_changed: bool,
}

/// A ring that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The stream; detach it.
    pub stream: StreamKey,
    /// Evicted or closed.
    pub state: RingState,
    /// Why.
    pub reason: EndReason,
    /// What became of every unit.
    pub counts: Counts,
}

/// What [`Reader::next`] found.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A unit.
    Unit(Unit<'a>),
    /// A stream's ring ended; said once, after all its units.
    Ended(Ended),
    /// Nothing came in time.
    Timeout,
    /// The producer's process has gone. What was in the rings has been given out.
    ProducerGone,
}

/// One session with a producer.
#[derive(Debug)]
pub struct Reader {
    /// How it was opened, to open the next session in the same way.
    path: PathBuf,
    options: Options,
    client: Client,
    welcome: Welcome,
    bell: Word<AtomicU32, ReadOnly>,
    state_gen: Word<AtomicU32, ReadOnly>,
    parked: Word<AtomicU32, ReadWrite>,
    notify: Option<NotifyEnd>,
    slots: Slots,
    streams: Streams,
    next_key: u32,
    buffer: UnitBuffer,
    /// `state_gen` when all rings' ends were last looked at.
    seen_gen: Option<u32>,
    alive: bool,
}

impl Reader {
    /// Connects to the producer's socket and opens a session.
    ///
    /// # Errors
    /// [`AttachError`] when there is no producer, it refuses, or its segments are not as they must be.
    pub fn connect(path: impl AsRef<Path>, options: &Options) -> Result<Self, AttachError> {
        let mut client = Client::connect(path.as_ref(), options.timeout)?;
        let mut hello = Hello::new(&options.name, options.slots);
        hello.token = Text::new(&options.token);
        hello.bell_interval_us = u32::try_from(options.bell_interval.as_micros()).unwrap_or(u32::MAX);
        hello.features = if options.notify { FEATURE_NOTIFY_FD } else { 0 };
        let (answer, fds) = client.request(&Message::Hello(hello))?;
        let mut fds = fds.into_iter();
        let (Message::Welcome(welcome), Some(session), Some(cursor)) = (answer, fds.next(), fds.next())
        else {
            return Err(RequestError::Protocol.into());
        };
        if welcome.major != hello.major || !(hello.minor_min..=hello.minor_max).contains(&welcome.minor) {
            return Err(RequestError::Protocol.into());
        }
        let (session, tails) = open_read_only(&session, SegmentKind::Session)?;
        let (cursor, heads) = open_cursor(&cursor)?;
        let word = |offset| session.word32(offset).ok_or(HeaderError::Table);
        Ok(Self {
            path: path.as_ref().to_owned(),
            options: options.clone(),
            client,
            welcome,
            bell: word(128)?,
            state_gen: word(132)?,
            parked: cursor.word32(128).ok_or(HeaderError::Table)?,
            notify: fds.next().map(NotifyEnd::new),
            slots: Slots::new((session, tails), (cursor, heads))?,
            streams: Streams::default(),
            next_key: 0,
            buffer: UnitBuffer::default(),
            seen_gen: None,
            alive: true,
        })
    }

    /// Opens another session at the same socket, after the producer's process has gone: another may be there now, of another
    /// [`daemon_epoch`](Self::daemon_epoch). Nothing is attached then; keys that were given out name nothing any more.
    ///
    /// How often that is tried is the caller's to say: [`Retry`] counts.
    ///
    /// # Errors
    /// [`AttachError`]; this reader is as it was.
    pub fn reconnect(&mut self) -> Result<(), AttachError> {
        let mut next = Self::connect(&self.path, &self.options)?;
        next.next_key = self.next_key;
        *self = next;
        Ok(())
    }

    /// Random number of the producer's run.
    pub fn daemon_epoch(&self) -> u64 {
        self.welcome.daemon_epoch
    }

    /// Attaches a stream.
    ///
    /// # Errors
    /// [`AttachError`]; nothing changed.
    pub fn attach(
        &mut self,
        stream: &str,
        join: &Join,
    ) -> Result<(StreamKey, handshake::Attached), AttachError> {
        if stream.len() > STREAM_ID_LEN_MAX {
            return Err(RequestError::Protocol.into());
        }
        let (stream, tail, answer) = self.open(stream, join)?;
        let key = StreamKey(self.next_key);
        self.next_key = self.next_key.wrapping_add(1);
        self.streams.insert(key, stream, tail);
        Ok((key, answer))
    }

    /// Asks for a stream and maps what comes.
    fn open(&mut self, id: &str, join: &Join) -> Result<(Attached, Tail, handshake::Attached), AttachError> {
        let request = handshake::Attach { stream: Text::new(id), join: *join };
        let (answer, fds) = self.client.request(&Message::Attach(request))?;
        let (Message::Attached(answer), Ok(fds)) = (answer, <[OwnedFd; 2]>::try_from(fds)) else {
            return Err(RequestError::Protocol.into());
        };
        let slot = answer.slot;
        if self.streams.uses(slot) {
            // Not detached: that would end the stream that has it.
            return Err(RequestError::Protocol.into());
        }
        let opened = self.slots.words(slot).ok_or(OpenError::Header(HeaderError::Table));
        let opened = opened.and_then(|(tail, head)| Ok((tail, Attachment::open(&answer, join, &fds, head)?)));
        let (tail, attachment) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                // The producer holds a ring for us that we cannot read. What it answers says less than the error.
                let _ = self.client.request(&Message::Detach { slot });
                return Err(error.into());
            }
        };
        let (id, join, epoch) = (id.to_owned(), *join, answer.epoch);
        Ok((Attached { slot, id, join, epoch, attachment, is_left: false }, tail, answer))
    }

    /// Detaches a stream, ended or not; what became of its units.
    ///
    /// # Errors
    /// [`RequestError`] when the producer did not confirm; the stream is gone from this reader all the same.
    pub fn detach(&mut self, stream: StreamKey) -> Result<Option<Counts>, RequestError> {
        let Some((attached, _)) = self.streams.remove(stream) else { return Ok(None) };
        if !attached.is_left {
            self.leave(&attached)?;
        }
        Ok(Some(attached.attachment.counts()))
    }

    fn leave(&mut self, attached: &Attached) -> Result<(), RequestError> {
        attached.attachment.clear_head();
        match self.client.request(&Message::Detach { slot: attached.slot })? {
            (Message::Detached { .. }, _) => Ok(()),
            _ => Err(RequestError::Protocol),
        }
    }

    /// The stream's ring ended because it was rotated: attaches again, right behind its last unit. False when that is refused, for
    /// example because this reader's access was withdrawn.
    fn follow(&mut self, key: StreamKey) -> bool {
        let Some((mut old, tail)) = self.streams.remove(key) else { return false };
        // Everything in the old ring was read, so its slot may go first: there may be no other.
        let left = self.leave(&old).is_ok();
        old.is_left = true;
        let new = if left { self.open_behind(&old) } else { None };
        let is_followed = new.is_some();
        let (stream, tail) = new.unwrap_or((old, tail));
        self.streams.insert(key, stream, tail);
        is_followed
    }

    /// Goes on behind the last unit of `old`, in the segment that its stream uses now.
    fn open_behind(&mut self, old: &Attached) -> Option<(Attached, Tail)> {
        let from = From::After { epoch: old.epoch, seq: old.attachment.final_seq() };
        let (mut new, tail, _) = self.open(&old.id, &Join { from, ..old.join }).ok()?;
        if new.epoch != old.epoch {
            // Set up anew meanwhile: another stream, whose numbers begin again. The caller decides.
            let _ = self.leave(&new);
            return None;
        }
        new.attachment.follow(&old.attachment);
        new.join = old.join;
        Some((new, tail))
    }

    /// What happened next, waiting for it at most `timeout` (for ever when `None`).
    pub fn next(&mut self, timeout: Option<Duration>) -> Event<'_> {
        let mut deadline = None;
        loop {
            let seen = cursor::observe_bell(&self.bell);
            if let Some(found) = self.find() {
                return self.event(found);
            }
            if !self.alive {
                return Event::ProducerGone;
            }
            // The clock is read only by who has to wait.
            let now = monotonic();
            let end = *deadline.get_or_insert_with(|| timeout.map(|timeout| now.saturating_add(timeout)));
            let left = end.map_or(SLEEP_MAX, |end| end.saturating_sub(now).min(SLEEP_MAX));
            if left.is_zero() {
                return Event::Timeout;
            }
            let woken = self.sleep(seen, left);
            if woken != Woken::Bell {
                // The producer may have died between what a ring says and what the session says of it.
                self.streams.look_at_all();
            }
            self.alive = match woken {
                Woken::Bell => true,
                Woken::Gone => false,
                Woken::Not => self.client.is_alive(),
            };
        }
    }

    /// What happened next, if it did already.
    ///
    /// For an event loop: when [`Reader::notify_fd`] is readable, call this until it gives `None`. `None` also when the
    /// producer has gone: the attach socket ([`AsFd`]) tells.
    pub fn try_next(&mut self) -> Option<Event<'_>> {
        let found = match (self.find(), &self.notify) {
            (None, Some(notify)) => {
                // Drained before the last look, so that what comes after it makes the descriptor readable again.
                notify.drain();
                self.find()
            }
            (found, _) => found,
        };
        found.map(|found| self.event(found))
    }

    /// What an event loop waits on; `None` unless [`Options::notify`] was asked for and granted.
    pub fn notify_fd(&self) -> Option<BorrowedFd<'_>> {
        self.notify.as_ref().map(AsFd::as_fd)
    }

    /// The parameter sets that the newest unit of a track referred to.
    pub fn configuration(&self, stream: StreamKey, track: u16) -> Option<&Configuration> {
        self.streams.get(stream)?.attachment.configuration(usize::from(track))
    }

    /// What became of a stream's units so far.
    pub fn counts(&self, stream: StreamKey) -> Option<Counts> {
        self.streams.get(stream).map(|attached| attached.attachment.counts())
    }

    /// What a stream says of itself.
    pub fn status(&self, stream: StreamKey) -> Option<StreamStatus> {
        self.streams.get(stream).map(|attached| attached.attachment.status())
    }

    /// The attached streams.
    pub fn streams(&self) -> impl Iterator<Item = StreamKey> {
        self.streams.keys()
    }

    /// What there is for the caller. A stream that was rotated is followed, which takes a request to the producer.
    #[inline]
    fn find(&mut self) -> Option<(StreamKey, Taken)> {
        loop {
            self.note_changes();
            match self.streams.scan(&mut self.buffer)? {
                (key, Taken::Ended { state: RingState::Rotated, .. }) if self.follow(key) => {}
                found => return Some(found),
            }
        }
    }

    /// After a change of some state every ring's end is looked at once more.
    fn note_changes(&mut self) {
        let now = cursor::observe_changes(&self.state_gen);
        if self.seen_gen.replace(now) != Some(now) {
            self.streams.look_at_all();
        }
    }

    #[inline]
    fn event(&self, (stream, taken): (StreamKey, Taken)) -> Event<'_> {
        match taken {
            Taken::Unit { lost, config_changed } => Event::Unit(Unit {
                stream,
                descriptor: &self.buffer.descriptor,
                payload: self.buffer.payload(),
                nal_ends: self.buffer.nal_ends(),
                lost,
                config_changed,
            }),
            Taken::Ended { state, reason } => {
                let counts = self.counts(stream).unwrap_or_default();
                Event::Ended(Ended { stream, state, reason, counts })
            }
            Taken::Dropped | Taken::Empty => Event::Timeout,
        }
    }

    /// Sleeps until the bell is rung, for at most `nap`.
    fn sleep(&self, seen: u32, nap: Duration) -> Woken {
        if let Some(notify) = &self.notify {
            return notify.wait(nap);
        }
        if cursor::park(&self.bell, &self.parked, seen) {
            self.bell.futex_wait(seen, nap);
        }
        cursor::unpark(&self.parked);
        if cursor::observe_bell(&self.bell) == seen { Woken::Not } else { Woken::Bell }
    }
}

impl AsFd for Reader {
    /// The attach socket: readable when the producer said something or has gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.client.notify(&Message::Bye { reason: 0 });
    }
}
