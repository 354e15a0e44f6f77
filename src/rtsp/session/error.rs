//! Why a session ended without being asked to.

use super::Method;
use crate::rtsp::sdp::SdpError;
use crate::rtsp::url::UrlError;

/// Why a session failed. The connection is of no further use; what to do next is the caller's decision, and
/// the variants are cut by it: wait and retry, tell the operator, or both.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// no answer to {method} in time
    #[error("no answer to {method} in time")]
    ReplyTimeout {
        /// The request that waited.
        method: Method,
    },
    /// the camera refuses the login
    #[error("the camera refuses the login")]
    AuthRefused {
        /// Whether there was a user name and password to refuse.
        credentials_set: bool,
        /// Whose password, in the camera's words.
        realm: Option<String>,
    },
    /// the camera asks for a login in a way that is not supported
    #[error("the camera asks for a login in a way that is not supported")]
    AuthUnsupported,
    /// 403: the login may not see this stream
    #[error("the login may not see this stream")]
    Forbidden,
    /// 404 to DESCRIBE: no such stream
    #[error("the camera has no such stream")]
    NotFound,
    /// 453: the camera serves no more sessions
    #[error("the camera serves no more sessions")]
    SessionLimit,
    /// 503: the camera is not ready
    #[error("the camera is not ready")]
    ServiceUnavailable,
    /// {method} was answered {status}
    #[error("{method} was answered {status}")]
    RequestRefused {
        /// The request.
        method: Method,
        /// Its status code.
        status: u16,
    },
    /// the camera redirects to what is no camera's URL: {why}
    #[error("the camera redirects to what is no camera's URL: {why}")]
    RedirectRefused {
        /// What is wrong with it.
        why: UrlError,
    },
    /// the camera offers no video
    #[error("the camera offers no video")]
    NoVideo,
    /// the camera's video is {name}, which is not supported
    #[error("the camera's video is {name}, which is not supported")]
    UnsupportedCodec {
        /// As the camera names it.
        name: String,
    },
    /// the camera's description cannot be read: {why}
    #[error("the camera's description cannot be read: {why}")]
    BadSdp {
        /// What is wrong with it.
        why: SdpError,
    },
    /// the camera does not send over TCP
    #[error("the camera does not send over TCP")]
    TransportRefused,
    /// the camera broke the protocol: {what}
    #[error("the camera broke the protocol: {what}")]
    ProtocolError {
        /// What it did.
        what: &'static str,
    },
}
