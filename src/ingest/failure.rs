//! Why an attempt ended: its machine-readable reason, how long to wait, and the words for the operator.
//!
//! The words say what happened and what to do about it. They name host, port and path, never user, password or
//! query.

use super::policy::{Policy, Series};
use super::state::{Reason, State};
use crate::limits::UNIT_LEN_MAX;
use crate::rtsp::{CameraUrl, FramerError, SessionError, UrlError};

/// Why a TCP connection did not come up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The host refused it.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The machine or the network said no, in its own words.
    Network(String),
}

/// How a connection ended from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerClose {
    /// The camera closed it.
    Closed,
    /// The camera reset it.
    Reset,
    /// The camera stopped acknowledging.
    TimedOut,
    /// It broke, in the system's own words.
    Broken(String),
}

/// Why an attempt ended.
#[derive(Debug)]
pub(crate) enum Failure {
    Resolve {
        why: String,
    },
    ResolveTimeout,
    NoAddress,
    TlsNotAvailable,
    TooManyRedirects,
    Connect(ConnectFailure),
    Framing(FramerError),
    /// The connection ended, or an answer never came, and what did come was not RTSP.
    NotRtsp,
    Session(SessionError),
    /// The camera redirected to another host, which wants a login; it was not told ours, if there is one.
    LoginAtAnotherHost,
    NoFirstFrame,
    UnitsTooLarge,
    Idle,
    Closed(PeerClose),
    Internal,
}

impl Failure {
    /// The state that the stream goes to.
    pub(crate) const fn state(&self) -> State {
        if matches!(self.reason(), Reason::AuthRefused) {
            State::AuthFailed
        } else if self.is_unsupported() {
            State::Unsupported
        } else {
            State::Backoff
        }
    }

    /// Which waits follow this failure.
    pub(crate) const fn series(&self) -> Series {
        if matches!(self.reason(), Reason::AuthRefused | Reason::Forbidden) {
            Series::Login
        } else if matches!(self.reason(), Reason::SessionLimit | Reason::ServiceUnavailable) {
            Series::Busy
        } else if self.is_unsupported() {
            Series::Unsupported
        } else {
            Series::Ordinary
        }
    }

    /// Whether the connection still works, so that the camera can be told that we leave.
    pub(crate) const fn leaves_a_listener(&self) -> bool {
        !matches!(self, Self::Closed(_) | Self::Internal)
    }

    const fn is_unsupported(&self) -> bool {
        matches!(self.reason(), Reason::NoVideo | Reason::UnsupportedCodec | Reason::UnsupportedTransport)
    }

    /// The one word for machines.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Resolve { .. } | Self::ResolveTimeout | Self::NoAddress => Reason::ResolveFailed,
            Self::TlsNotAvailable => Reason::UnsupportedTransport,
            Self::TooManyRedirects => Reason::RequestRefused,
            Self::Connect(ConnectFailure::Refused) => Reason::ConnectRefused,
            Self::Connect(ConnectFailure::TimedOut) => Reason::ConnectTimeout,
            Self::Connect(ConnectFailure::Network(_)) => Reason::ConnectFailed,
            Self::NotRtsp
            | Self::Framing(FramerError::OutOfStep { .. } | FramerError::BadContentLength { .. }) => {
                Reason::NotRtsp
            }
            Self::Framing(
                FramerError::HeadTooLong { .. }
                | FramerError::TooManyHeaders { .. }
                | FramerError::BodyTooLong { .. },
            )
            | Self::UnitsTooLarge => Reason::LimitExceeded,
            Self::Session(error) => session_reason(error),
            Self::LoginAtAnotherHost => Reason::AuthRefused,
            Self::NoFirstFrame => Reason::NoFirstFrame,
            Self::Idle => Reason::NoVideoData,
            Self::Closed(PeerClose::Closed) => Reason::ConnectionClosed,
            Self::Closed(PeerClose::Reset | PeerClose::TimedOut | PeerClose::Broken(_)) => {
                Reason::ConnectionLost
            }
            Self::Internal => Reason::InternalError,
        }
    }

    /// What happened and what to do, for a person. `url` is where the attempt went.
    pub(crate) fn words(&self, url: &CameraUrl, policy: &Policy) -> String {
        let host = url.host();
        let at = host_port(url);
        match self {
            Self::Resolve { why } => {
                format!(
                    "the host name {host} could not be resolved ({why}): check its spelling and this machine's DNS"
                )
            }
            Self::ResolveTimeout => {
                let seconds = policy.resolve_timeout.as_secs();
                format!("the host name {host} was not resolved within {seconds} s: check this machine's DNS")
            }
            Self::NoAddress => format!("the host name {host} has no address: check its DNS entry"),
            Self::TlsNotAvailable => {
                format!("{at} wants TLS (rtsps), which is not available yet: use the camera's rtsp port")
            }
            Self::TooManyRedirects => {
                format!("{at} redirects without end: set the URL that it should end at")
            }
            Self::Connect(failure) => connect_words(failure, &at, policy),
            Self::NotRtsp => {
                format!("what answers at {at} does not speak RTSP: check the port; 554 is usual")
            }
            Self::Framing(error @ (FramerError::OutOfStep { .. } | FramerError::BadContentLength { .. })) => {
                format!("what answers at {at} does not speak RTSP ({error}): check the port; 554 is usual")
            }
            Self::Framing(error) => {
                format!(
                    "{at} sent more than a camera may ({error}): check that it is a camera, then its firmware"
                )
            }
            Self::Session(error) => session_words(error, url, policy),
            Self::LoginAtAnotherHost => format!(
                "the camera redirected to {at}, which wants a login (401); a user name and password are not sent to \
                 another host: set {url} for this stream, with its user name and password"
            ),
            Self::NoFirstFrame => {
                let seconds = policy.first_frame_timeout.as_secs();
                format!(
                    "the camera accepted PLAY but sent no picture within {seconds} s: restart the camera's stream"
                )
            }
            Self::UnitsTooLarge => format!(
                "the camera sent no picture that ends within {UNIT_LEN_MAX} bytes: lower its bit rate or resolution, \
                 or restart it"
            ),
            Self::Idle => {
                let seconds = policy.idle_timeout.as_secs();
                format!(
                    "no video came for {seconds} s although the connection is up: restart the camera's stream if this goes on"
                )
            }
            Self::Closed(how) => closed_words(how, &at),
            Self::Internal => {
                "a bug of vms-media was caught at this stream; please report it with the daemon's log"
                    .to_owned()
            }
        }
    }
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn host_port(url: &CameraUrl) -> String {
    let (host, port) = (url.host(), url.port());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn connect_words(failure: &ConnectFailure, at: &str, policy: &Policy) -> String {
    match failure {
        ConnectFailure::Refused => format!(
            "{at} refused the connection: nothing listens there. Check the port, and that RTSP is enabled in the camera"
        ),
        ConnectFailure::TimedOut => {
            let seconds = policy.connect_timeout.as_secs();
            format!(
                "{at} did not answer within {seconds} s: check the address, and that the camera is powered and reachable"
            )
        }
        ConnectFailure::Network(why) => {
            format!("no connection to {at} ({why}): check the address and this machine's network")
        }
    }
}

fn closed_words(how: &PeerClose, at: &str) -> String {
    match how {
        PeerClose::Closed => {
            format!("{at} closed the connection: if this goes on, close other viewers, or restart the camera")
        }
        PeerClose::Reset => {
            format!("{at} reset the connection: if this goes on, close other viewers, or restart the camera")
        }
        PeerClose::TimedOut => {
            format!("{at} no longer acknowledges what is sent: check the camera's power and network")
        }
        PeerClose::Broken(why) => {
            format!("the connection to {at} broke ({why}): check the network between here and there")
        }
    }
}

const fn session_reason(error: &SessionError) -> Reason {
    match error {
        SessionError::ReplyTimeout { .. } => Reason::ReplyTimeout,
        SessionError::AuthRefused { .. } | SessionError::AuthUnsupported => Reason::AuthRefused,
        SessionError::Forbidden => Reason::Forbidden,
        SessionError::NotFound => Reason::NotFound,
        SessionError::SessionLimit => Reason::SessionLimit,
        SessionError::ServiceUnavailable => Reason::ServiceUnavailable,
        SessionError::RequestRefused { .. } => Reason::RequestRefused,
        SessionError::RedirectRefused { why: UrlError::UnsupportedScheme { .. } }
        | SessionError::TransportRefused => Reason::UnsupportedTransport,
        SessionError::RedirectRefused { .. } => Reason::RequestRefused,
        SessionError::NoVideo => Reason::NoVideo,
        SessionError::UnsupportedCodec { .. } => Reason::UnsupportedCodec,
        SessionError::BadSdp { .. } => Reason::BadSdp,
        SessionError::ProtocolError { .. } => Reason::NotRtsp,
    }
}

fn session_words(error: &SessionError, url: &CameraUrl, policy: &Policy) -> String {
    match error {
        SessionError::ReplyTimeout { method } => {
            let seconds = policy.reply_timeout.as_secs();
            format!(
                "{} did not answer {method} within {seconds} s: check that the port is its RTSP port, then restart it",
                host_port(url)
            )
        }
        SessionError::AuthRefused { credentials_set: false, .. } => {
            "the camera asks for a user name and password, and none are set (401): set them for this stream".to_owned()
        }
        SessionError::AuthRefused { credentials_set: true, .. } => {
            "the camera refused the user name or password (401): correct them. The next try comes late, because \
             cameras lock out who tries often"
                .to_owned()
        }
        SessionError::AuthUnsupported => {
            "the camera asks for a login in a way that is not supported (401): enable Digest or Basic authentication \
             for RTSP in the camera"
                .to_owned()
        }
        SessionError::Forbidden => {
            "the camera knows the user but does not allow it this stream (403): check the user's rights there".to_owned()
        }
        SessionError::NotFound => {
            format!("the camera has no stream at {url} (404): check the URL's path")
        }
        SessionError::SessionLimit => {
            "the camera has no session or bandwidth left (453): close other viewers, or raise its limit".to_owned()
        }
        SessionError::ServiceUnavailable => {
            "the camera is overloaded or not ready (503): close other viewers, or restart it if this goes on".to_owned()
        }
        SessionError::RequestRefused { method, status } => {
            format!("the camera answered {method} with {status}: check the URL and the camera's RTSP settings")
        }
        SessionError::RedirectRefused { why } => {
            format!("the camera redirects to an address that cannot be followed ({why}): set the rtsp URL of its stream")
        }
        SessionError::NoVideo => {
            format!("the stream at {url} has no video: check that the URL is that of a video stream")
        }
        SessionError::UnsupportedCodec { name } => {
            format!("the camera sends {name}; only H.264 and H.265 are carried: change the codec in the camera")
        }
        SessionError::BadSdp { why } => {
            format!("the camera's description of the stream cannot be read ({why}): update its firmware")
        }
        SessionError::TransportRefused => {
            "the camera does not offer RTP over the RTSP connection (TCP): enable that in the camera".to_owned()
        }
        SessionError::ProtocolError { what } => {
            format!("{} broke the RTSP protocol ({what}): check that it is a camera, then its firmware", host_port(url))
        }
    }
}
