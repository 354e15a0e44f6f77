//! What state a camera is in, why, and what a person can do about it.

use crate::time::{Mono, UnixNanos};

/// A stream's state, as the API shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Registered; its first attempt has not begun.
    Pending,
    /// Resolving, connecting, or negotiating; no media yet.
    Connecting,
    /// Access units are flowing.
    Streaming,
    /// The session is up but no video has come for the idle time-out; the session is about to be replaced.
    Stalled,
    /// The last attempt failed; the next one has a time.
    Backoff,
    /// The camera refused the credentials; tried again at long intervals only, because cameras lock out.
    AuthFailed,
    /// The camera has nothing that this daemon can carry; tried again at long intervals.
    Unsupported,
    /// Being torn down.
    Stopping,
}

/// Why a stream is in its state: one word a cause, for machines. The text for people is [`Status::detail`].
///
/// The numbers are the API's `StateReason`. Readers see them in the ring ABI's `state_reason` too, so they are never
/// changed or used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Nothing is wrong.
    None = 0,
    /// The host name could not be resolved.
    ResolveFailed = 1,
    /// The host refused the TCP connection.
    ConnectRefused = 2,
    /// No answer to the TCP connection within the time-out.
    ConnectTimeout = 3,
    /// The network said no: unreachable, denied, reset while connecting.
    ConnectFailed = 4,
    /// What answered does not speak RTSP, or broke its grammar beyond repair.
    NotRtsp = 5,
    /// An RTSP request was not answered in time.
    ReplyTimeout = 6,
    /// 401: no credentials are set, or they are wrong.
    AuthRefused = 7,
    /// 403: the credentials are known but not allowed.
    Forbidden = 8,
    /// 404: no such path at the camera.
    NotFound = 9,
    /// 453: the camera's session or bandwidth limit is reached.
    SessionLimit = 10,
    /// 503: the camera says it is overloaded.
    ServiceUnavailable = 11,
    /// Another error status to an RTSP request.
    RequestRefused = 12,
    /// The session description has no video.
    NoVideo = 13,
    /// The video's codec is neither H.264 nor H.265.
    UnsupportedCodec = 14,
    /// The camera does not offer RTP over its RTSP connection, or asks for TLS.
    UnsupportedTransport = 23,
    /// The session description could not be understood.
    BadSdp = 15,
    /// The camera sent more than a limit allows: header, body, or bytes that are no frame.
    LimitExceeded = 16,
    /// Playing, but the first video packet did not come.
    NoFirstFrame = 17,
    /// Video stopped.
    NoVideoData = 18,
    /// The camera closed the connection.
    ConnectionClosed = 19,
    /// The connection broke: reset, time-out of the transport.
    ConnectionLost = 20,
    /// A bug of this daemon was caught at this camera's boundary; the stream starts anew.
    InternalError = 21,
    /// The operator asked for it.
    Requested = 22,
}

impl Reason {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 24] = [
        Self::None,
        Self::ResolveFailed,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::NotRtsp,
        Self::ReplyTimeout,
        Self::AuthRefused,
        Self::Forbidden,
        Self::NotFound,
        Self::SessionLimit,
        Self::ServiceUnavailable,
        Self::RequestRefused,
        Self::NoVideo,
        Self::UnsupportedCodec,
        Self::BadSdp,
        Self::LimitExceeded,
        Self::NoFirstFrame,
        Self::NoVideoData,
        Self::ConnectionClosed,
        Self::ConnectionLost,
        Self::InternalError,
        Self::Requested,
        Self::UnsupportedTransport,
    ];

    /// The reason's number, in the API and in the ring ABI.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

/// A stream's state with everything that explains it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Its cause.
    pub reason: Reason,
    /// What happened and what to do, in a sentence or two. Never holds a secret.
    pub detail: String,
    /// When this state began.
    pub since: UnixNanos,
    /// When the next attempt begins, if one is planned.
    pub next_attempt: Option<Mono>,
}
