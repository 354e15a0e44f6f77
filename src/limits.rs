//! Every maximum that a peer could otherwise set for us, in one place, with how they relate.
//!
//! With a limit on everything, what happens under overload is already decided: the thing that is too large is
//! dropped or its connection closed, with a reason, and nothing else notices.

use std::ops::RangeInclusive;
use std::time::Duration;

// RTSP text ------------------------------------------------------------------------------------------------

/// Bytes of one RTSP message's start line and headers. Real cameras stay under 2 KiB.
pub const RTSP_HEAD_LEN_MAX: usize = 64 * 1024;
/// Header lines of one RTSP message.
pub const RTSP_HEADERS_MAX: usize = 256;
/// Bytes of one RTSP message's body (SDP). Real cameras stay under 8 KiB.
pub const RTSP_BODY_LEN_MAX: usize = 256 * 1024;
/// Bytes that may be skipped in search of the next frame before the connection is given up.
pub const RTSP_RESYNC_LEN_MAX: usize = 1024 * 1024;
/// Bytes of RTSP and RTCP waiting to be sent to one camera. A camera that does not read is disconnected.
pub const OUTBOX_LEN_MAX: usize = 16 * 1024;
/// Challenges looked at in one 401 answer.
pub const AUTH_CHALLENGES_MAX: usize = 8;
/// Redirects followed for one attempt.
pub const REDIRECTS_MAX: usize = 3;
/// Addresses of one host name that are tried.
pub const ADDRESSES_MAX: usize = 4;
/// Bytes of a camera URL.
pub const URL_LEN_MAX: usize = 2048;

// SDP ------------------------------------------------------------------------------------------------------

/// `m=` sections looked at.
pub const SDP_MEDIA_MAX: usize = 32;
/// Payload formats of one `m=` section looked at.
pub const SDP_FORMATS_MAX: usize = 16;
/// Bytes of decoded `sprop-*` parameter sets taken from one SDP.
pub const SDP_SPROP_LEN_MAX: usize = PARAMETER_SETS_LEN_MAX;

// RTP and codecs -------------------------------------------------------------------------------------------

/// Payload bytes of an RTP packet in an RTSP interleaved frame (its length field has 16 bits).
pub const RTP_PACKET_LEN_MAX: usize = 65_535;
/// Bytes of packets of another source than the one that is heard, that are kept until it shows whether it has taken over: of most
/// cameras a key picture.
pub const HELD_PACKETS_LEN_MAX: usize = 256 * 1024;
/// NAL units of one access unit. 4K H.265 with a slice a CTU row has under 200.
pub const NALS_PER_UNIT_MAX: usize = 1024;
/// Bytes of one access unit with its NAL index: a quarter of the arena, without the descriptor that stands there too.
pub const UNIT_LEN_MAX: usize = ARENA_LEN_DEFAULT / 4 - 128;
/// Bytes of VPS, SPS and PPS in Annex B form: what the ABI's 4096-byte configuration entry holds.
pub const PARAMETER_SETS_LEN_MAX: usize = 4096 - 64;
/// Bytes of one parameter set NAL unit.
pub const PARAMETER_SET_LEN_MAX: usize = 2048;
/// Parameter sets of one kind that are kept beside each other. Cameras use one; a few use an id per resolution.
pub const PARAMETER_SETS_MAX: usize = 8;
/// Bytes at the beginning of an SEI NAL unit that are looked at.
pub const SEI_LEN_SCANNED: usize = 256;

// Publishing -----------------------------------------------------------------------------------------------

/// Bytes of a stream's video arena unless configured otherwise: 16 s at 4 Mbit/s.
pub const ARENA_LEN_DEFAULT: usize = 8 * 1024 * 1024;
/// How long a segment that a stream has left is kept for readers that are behind, at most: it takes as much memory as a stream.
pub const LINGER_MAX: Duration = Duration::from_secs(20);
/// The same when memory is short. Less than this is no segment kept that somebody is behind in.
pub const LINGER_MIN: Duration = Duration::from_secs(1);

// Readers --------------------------------------------------------------------------------------------------

/// Readers connected at once. One more is turned away.
pub const READERS_MAX: usize = 64;
/// Streams that have ended, or been torn down, whose memory the readers of one user may hold, because they have not detached. One more
/// attachment is refused then.
pub const ENDED_STREAMS_HELD_MAX: usize = 32;
/// Users, and as many groups, that a stream's access list may name.
pub const ACCESS_IDS_MAX: usize = 64;
/// Streams that one reader may attach at once: all of them.
#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
pub const READER_SLOTS_MAX: u32 = STREAMS_MAX as u32;
/// How long a reader that has connected may stay without saying what it wants.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Readers let in: each costs two segments and some hundred microseconds of the attach thread. The others wait.
pub const CONNECT_RATE: Rate = Rate::per_second(64, 32);
/// Connections that the readers of one guest (a user that an access list names) may open. More are closed.
pub const GUEST_CONNECT_RATE: Rate = Rate::per_second(16, 4);
/// Sessions that the readers of one guest may have at once.
pub const GUEST_SESSIONS_MAX: usize = 8;
/// Bytes of sessions and rings that the processes of one guest may be given in their lives: they may keep what they detach.
pub const GUEST_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Streams that one reader attaches: each costs a ring, and tens of microseconds of the control thread and of a shard.
/// More are refused.
pub const ATTACH_RATE: Rate = Rate::per_second(READER_SLOTS_MAX, 256);

/// How often something may happen: so many times at once, and then once in so long a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once, after a pause; at least 1.
    pub burst: u32,
    /// In the long run, once in this time.
    pub interval: Duration,
}

impl Rate {
    /// `burst` times at once, and then `times` a second; at least 1.
    pub const fn per_second(burst: u32, times: u32) -> Self {
        Self { burst, interval: Duration::from_nanos(1_000_000_000 / times as u64) }
    }
}

// Patience with cameras: what the configuration file and callers may ask for ----------------------------------

/// For a host name to be resolved. A look-up ends a second before; a shorter one gives a name server no second chance.
pub const RESOLVE_TIMEOUT: RangeInclusive<Duration> = seconds(2, 120);
/// For a TCP connection, for the answer to one RTSP request, and between receiver reports.
pub const CAMERA_TIMEOUT: RangeInclusive<Duration> = seconds(1, 120);
/// For video, the first and the next. A camera may send a picture every few minutes.
pub const MEDIA_TIMEOUT: RangeInclusive<Duration> = seconds(1, 3600);
/// For TEARDOWN's answer. All cameras together are waited for for 5 s when the daemon stops.
pub const TEARDOWN_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(4);
/// Streaming that forgets earlier failures.
pub const STABLE_AFTER: RangeInclusive<Duration> = seconds(1, 3600);
/// A wait between two attempts.
pub const RETRY_WAIT: RangeInclusive<Duration> = seconds(1, 24 * 3600);
/// The same after a refused login. Cameras lock an address out, some after five attempts in half an hour, and some begin to count
/// anew with each.
pub const RETRY_AUTH_WAIT: RangeInclusive<Duration> = seconds(30, 24 * 3600);
/// From one wait to the next.
pub const RETRY_MULTIPLIER: RangeInclusive<u32> = 1..=10;
/// The random part of a wait, in percent of it. More would make waits of nothing.
pub const RETRY_JITTER_PERCENT: RangeInclusive<u32> = 0..=50;

const fn seconds(least: u64, most: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(least)..=Duration::from_secs(most)
}

// Shards ---------------------------------------------------------------------------------------------------

/// Threads that carry streams: each takes a core, a ring and its buffers.
pub const SHARDS_MAX: usize = 256;
/// Streams one daemon carries.
pub const STREAMS_MAX: usize = 4096;
/// Received bytes of one stream worked on in one turn; the rest waits for the next.
pub const STREAM_BYTES_PER_TURN: usize = 1024 * 1024;
/// Bytes a camera may send at once before it is held to its rate (`[camera] max_mbit_s`): two of the largest units, as after
/// a pause of the network.
pub const CAMERA_BURST_LEN: usize = 2 * UNIT_LEN_MAX;
/// Megabits a second that a camera may send in the long run, unless configured otherwise: several times what one sends in 4K.
pub const CAMERA_MBIT_S_DEFAULT: u32 = 100;
/// What can be configured for that.
pub const CAMERA_MBIT_S: RangeInclusive<u32> = 1..=100_000;
/// Receive buffers one stream may keep for its next turn before its connection is paused: others need them too.
pub const STREAM_BUFFERS_MAX: usize = 8;
/// Cameras that the daemon connects to at once, unless configured otherwise.
pub const CONNECTS_AT_ONCE_DEFAULT: u16 = 64;
/// Commands a shard takes in one turn.
pub const COMMANDS_PER_TURN: usize = 64;
/// Commands that may wait for one shard.
pub const COMMAND_QUEUE_LEN: usize = 1024;
/// Events that may wait for the control thread, per shard.
pub const EVENT_QUEUE_LEN: usize = 4096;

// Memory ---------------------------------------------------------------------------------------------------

/// Bytes of the available memory that streams leave alone, at least: the daemon's own heap, readers' rings, callers.
pub const MEMORY_RESERVE_MIN: u64 = 64 * 1024 * 1024;
/// The part of the available memory that streams leave alone, at least: one in so many.
pub const MEMORY_RESERVE_DIVISOR: u64 = 8;

// Control --------------------------------------------------------------------------------------------------

/// Bytes of one request.
pub const REQUEST_LEN_MAX: usize = 1024 * 1024;
/// Connections of callers at once, over all listeners. One more is closed.
pub const CALLERS_MAX: usize = 256;
/// The part of this process's descriptors that connections of callers may take, at most: one in so many.
pub const CALLER_DESCRIPTORS_DIVISOR: u64 = 4;
/// How long a caller that has connected may take to begin to speak HTTP/2.
pub const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls in flight on one connection.
pub const CALLS_PER_CONNECTION_MAX: u32 = 128;
/// Watches open at once.
pub const WATCHERS_MAX: usize = 64;
/// Events that may wait for one watcher; one that falls further behind is cut off.
pub const WATCH_QUEUE_LEN: usize = 2 * STREAMS_MAX;
/// Events kept for watchers that come back.
pub const WATCH_HISTORY_LEN: usize = 2 * STREAMS_MAX;
/// Streams of one page unless the caller says otherwise.
pub const PAGE_SIZE_DEFAULT: usize = 100;
/// Streams of one page.
pub const PAGE_SIZE_MAX: usize = 1000;
/// Bytes of one page: gRPC clients refuse answers above 4 MiB unless told otherwise.
pub const PAGE_LEN_MAX: usize = 2 * 1024 * 1024;
/// Labels of one stream.
pub const LABELS_MAX: usize = 32;
/// Bytes of a label's key.
pub const LABEL_KEY_LEN_MAX: usize = 63;
/// Bytes of a label's value.
pub const LABEL_VALUE_LEN_MAX: usize = 256;
/// Bytes of a user name or a password.
pub const CREDENTIAL_LEN_MAX: usize = 256;
/// Bytes of the text that explains a state.
pub const DETAIL_LEN_MAX: usize = 1024;
/// Segments made at once, each on a thread of its own: the kernel clears their pages, milliseconds each.
pub const SEGMENTS_MADE_MAX: usize = 4;
/// Host names looked up at once; a dead name server holds each look-up for seconds.
pub const LOOKUPS_MAX: usize = 16;
/// Events of one shard that the control thread takes before it looks after its callers again.
pub const EVENTS_PER_PASS: usize = 256;

/// Lines of the log that one stream may take.
pub const LOG_LINES: Rate = Rate { burst: 8, interval: Duration::from_secs(10) };
/// How long it takes until a state for the same reason is news again, which is told in any case.
pub const LOG_NEWS_INTERVAL: Duration = Duration::from_secs(600);

// Configuration --------------------------------------------------------------------------------------------

/// Bytes of the file that keeps a stream: what a request may have, and what stands around it.
pub const STATE_FILE_LEN_MAX: usize = REQUEST_LEN_MAX + 4096;
/// Changes of kept streams that share one fsync of their directory.
pub const STATE_CHANGES_AT_ONCE: usize = 64;
/// Bytes of a file with a camera's password that are looked at: its first line counts.
pub const PASSWORD_FILE_LEN_MAX: u64 = 4096;
/// Bytes of the configuration file: four thousand streams need less.
pub const CONFIG_LEN_MAX: u64 = 4 * 1024 * 1024;

// Reader programs ------------------------------------------------------------------------------------------

/// Reader programs that the daemon looks after.
pub const PROGRAMS_MAX: usize = 16;
/// Lines of one reader program that go to the log.
pub const PROGRAM_LINES: Rate = Rate::per_second(100, 10);
/// Bytes of such a line; the rest is another one.
pub const PROGRAM_LINE_LEN_MAX: u64 = 4096;
/// How long a reader program may take to end, once it was told to: a recorder finishes its file.
pub const PROGRAM_STOP_TIMEOUT: Duration = Duration::from_secs(5);

// HTTP -----------------------------------------------------------------------------------------------------

/// HTTP connections at once. One more costs the oldest its own.
pub const HTTP_CONNECTIONS_MAX: usize = 32;
/// Bytes of a request's first line and headers.
pub const HTTP_HEAD_LEN_MAX: usize = 16 * 1024;
/// How long a client may take to say what it wants: it is on this machine.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the control thread may take to answer, until it is said that it does not.
pub const HTTP_ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may last, from its first byte until the client has read the answer.
pub const HTTP_CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

const _: () = {
    assert!(
        PASSWORD_FILE_LEN_MAX > CREDENTIAL_LEN_MAX as u64 + 2,
        "a password that is too long is seen to be"
    );
    assert!(WATCH_QUEUE_LEN > STREAMS_MAX, "all cameras may fail at once and no watcher be cut off for it");
    assert!(PAGE_SIZE_DEFAULT <= PAGE_SIZE_MAX);
    assert!(
        CALLERS_MAX > WATCHERS_MAX,
        "watchers may use a connection each and leave room for other callers"
    );
    assert!(LABELS_MAX * (LABEL_KEY_LEN_MAX + LABEL_VALUE_LEN_MAX) + URL_LEN_MAX < PAGE_LEN_MAX / 2);
    assert!(STREAMS_MAX <= u32::MAX as usize);
    assert!(
        HTTP_HEAD_TIMEOUT.as_nanos() + HTTP_ANSWER_TIMEOUT.as_nanos() < HTTP_CONNECTION_TIMEOUT.as_nanos(),
        "there is time for the answer, even for a slow client's"
    );
    assert!(CONNECT_RATE.burst as usize >= READERS_MAX, "after a restart all readers come back at once");
    assert!(ATTACH_RATE.burst >= READER_SLOTS_MAX, "and attach all their streams");
    assert!(UNIT_LEN_MAX > RTP_PACKET_LEN_MAX);
    assert!(HELD_PACKETS_LEN_MAX > 2 * RTP_PACKET_LEN_MAX);
    assert!(ARENA_LEN_DEFAULT.is_power_of_two());
    assert!(
        MEMORY_RESERVE_MIN >= 4 * ARENA_LEN_DEFAULT as u64,
        "a withdrawal may take a segment of the reserve"
    );
    assert!(LINGER_MIN.as_nanos() < LINGER_MAX.as_nanos());
    assert!(ARENA_LEN_DEFAULT >= 2 * UNIT_LEN_MAX, "an arena holds at least two of the largest units");
    assert!(PARAMETER_SET_LEN_MAX < PARAMETER_SETS_LEN_MAX);
    assert!(SEI_LEN_SCANNED < PARAMETER_SET_LEN_MAX);
    assert!(STREAM_BYTES_PER_TURN > RTP_PACKET_LEN_MAX);
    assert!(RTSP_RESYNC_LEN_MAX > RTP_PACKET_LEN_MAX);
};
