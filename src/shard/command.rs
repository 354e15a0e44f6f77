//! What the control thread tells a shard, and what it hears.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::VideoFormat;
use crate::ids::{StreamId, StreamUid};
use crate::ingest::{CameraConfig, CameraStats, Policy, Status};
use crate::publish::{self, Joined, Publisher, ReaderRing, ReaderStats, RingId, Successor};

use super::stream::MovingStream;

/// Something to do. Commands for a stream that is gone do nothing.
#[derive(Debug)]
pub enum Command {
    /// Carry a stream from now on.
    Add(Box<NewStream>),
    /// End a stream politely; [`Event::Removed`] follows.
    Remove {
        /// Which.
        uid: StreamUid,
    },
    /// Give a stream away, to another shard: [`Event::Departed`] or [`Event::Stayed`] follows, if the shard has the stream.
    Depart {
        /// Which.
        uid: StreamUid,
    },
    /// Carry a stream that another shard gave away, from where that stopped; [`Event::Arrived`] follows.
    Arrive(Box<MovingStream>),
    /// End the session and begin the next attempt at once.
    Restart {
        /// Which.
        uid: StreamUid,
    },
    /// Begin the next attempt soon, if the stream waits for it because its camera was out of reach.
    Hasten {
        /// Which.
        uid: StreamUid,
    },
    /// Be this patient with the stream's camera from now on.
    SetPolicy {
        /// Which.
        uid: StreamUid,
        /// How.
        policy: Box<Policy>,
    },
    /// The answer to [`Event::Resolve`].
    Resolved {
        /// Which.
        uid: StreamUid,
        /// The question's number.
        attempt: u64,
        /// Addresses, or why there are none.
        answer: Result<Vec<SocketAddr>, String>,
    },
    /// Take a reader in: [`Event::Attached`] or [`Event::NotAttached`] follows.
    Attach {
        /// Which.
        uid: StreamUid,
        /// The reader's ring.
        ring: Box<ReaderRing>,
    },
    /// Let a reader go: [`Event::Detached`] follows, also when the stream is gone.
    Detach {
        /// Which.
        uid: StreamUid,
        /// The reader's ring.
        ring: RingId,
    },
    /// Go on in another segment from the next unit on: [`Event::Moved`] or [`Event::NotMoved`] follows. A stream that is removed before
    /// takes the segment along.
    Rotate {
        /// Which.
        uid: StreamUid,
        /// The segment.
        successor: Successor,
        /// How long readers that are behind may be fed from the segment that is left.
        linger_max: Duration,
    },
    /// End all streams politely, then the thread.
    Shutdown,
}

/// All that a shard needs to carry a stream.
#[derive(Debug)]
pub struct NewStream {
    /// This incarnation.
    pub uid: StreamUid,
    /// Its name, for logs.
    pub id: StreamId,
    /// The camera.
    pub camera: CameraConfig,
    /// Spreads retries; any number.
    pub seed: u64,
    /// Where its access units go. Made before, because that takes milliseconds.
    pub publisher: Box<Publisher>,
}

/// What a stream has done since it was set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// What came from the camera.
    pub camera: CameraStats,
    /// What went to the readers.
    pub published: publish::Counters,
}

/// What a shard has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Streams that it carries now.
    pub streams: usize,
    /// Processor time of its thread.
    pub cpu: Duration,
    /// Turns.
    pub turns: u64,
    /// Turns that ended with a sleep.
    pub wake_ups: u64,
    /// System calls to receive, send, wait and wake readers. Those to make and close sockets are not counted.
    pub system_calls: u64,
    /// Completions, or events and receives.
    pub completions: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Readers that slept and were woken.
    pub reader_wakes: u64,
    /// Receives that found no free buffer.
    pub out_of_buffers: u64,
    /// Receives armed again.
    pub rearms: u64,
    /// Times that a stream had more than its share of a turn and went on in the next.
    pub overruns: u64,
    /// Streams that would connect to their camera and wait for their turn.
    pub waiting_connects: usize,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The stream's status changed. Each change is told, unless the control thread is slow: then some in between are not.
    Status {
        /// Which.
        uid: StreamUid,
        /// The status.
        status: Status,
    },
    /// The camera's video has this format from now on.
    Format {
        /// Which.
        uid: StreamUid,
        /// The format.
        format: VideoFormat,
    },
    /// Look a name up and answer with [`Command::Resolved`].
    Resolve {
        /// Which.
        uid: StreamUid,
        /// The name.
        host: String,
        /// The port that the addresses are to have.
        port: u16,
        /// To be given back.
        attempt: u64,
    },
    /// Counters, about once a second.
    Stats {
        /// Which.
        uid: StreamUid,
        /// The counters.
        stats: Box<StreamStats>,
        /// Those of each reader.
        readers: Vec<ReaderStats>,
    },
    /// The shard's own counters, about once a second while it has streams.
    ShardStats(ShardStats),
    /// A reader was taken in.
    Attached {
        /// Which stream.
        uid: StreamUid,
        /// The reader's ring.
        ring: RingId,
        /// Where the reader stands.
        joined: Joined,
        /// The stream's segment at that time.
        segment: Arc<OwnedFd>,
    },
    /// A reader was not taken in, because the stream is gone or ending, or failed over it.
    NotAttached {
        /// Which stream.
        uid: StreamUid,
        /// The ring's name.
        id: RingId,
        /// The ring, unused, to be dropped outside of a turn; `None` when a bug that was caught took it along.
        ring: Option<Box<ReaderRing>>,
    },
    /// The shard no longer touches a reader's ring.
    Detached {
        /// Which stream.
        uid: StreamUid,
        /// The ring's name.
        id: RingId,
        /// The ring, to be dropped (unmapped) outside of a turn; `None` when it went with its stream.
        ring: Option<Box<ReaderRing>>,
    },
    /// The stream has gone to the segment that it was sent: the one before sees no more units. [`Event::Released`] follows for that.
    Moved {
        /// Which stream.
        uid: StreamUid,
    },
    /// The stream did not go to the segment that it was sent, because it is gone or ending, or has failed.
    NotMoved {
        /// Which stream.
        uid: StreamUid,
        /// The segment, unused, to be dropped outside of a turn.
        memory: Successor,
    },
    /// A segment that the stream has left is no longer used for its readers either; to be dropped outside of a turn.
    Released {
        /// Which stream.
        uid: StreamUid,
        /// The segment.
        memory: Successor,
    },
    /// The stream belongs to no shard until it is sent on by [`Command::Arrive`]. What else it had to tell was told before.
    Departed {
        /// Which.
        uid: StreamUid,
        /// The stream.
        stream: Box<MovingStream>,
    },
    /// The stream was not given away: it is connecting, ending, or broken.
    Stayed {
        /// Which.
        uid: StreamUid,
    },
    /// The stream goes on here.
    Arrived {
        /// Which.
        uid: StreamUid,
    },
    /// The stream is gone. Only answers to later commands carry this uid again.
    Removed {
        /// Which.
        uid: StreamUid,
        /// Its publisher with the rings of remaining readers, to be dropped outside of a turn: that ends them.
        publisher: Box<Publisher>,
    },
}
