//! RTSP as a client: framing, messages, URLs, authentication, SDP and the session of one connection.
//!
//! ```text
//!  bytes ─▶ Framer ─▶ Event::Data ───────────────────▶ (rtp)
//!                 └─▶ Event::{Response, Request} ─▶ Session ─▶ SessionEvent, bytes to send, next deadline
//! ```
//!
//! Everything here is pure: bytes and a time go in, events, bytes and a deadline come out. Sockets, names and
//! reconnecting are the caller's. What real cameras get wrong is accepted where it can be understood, and every
//! such case has a test that is named after it; what could make us grow has a maximum in [`crate::limits`].
#![warn(clippy::indexing_slicing)]

pub mod auth;
pub mod control;
pub mod framer;
pub mod message;
pub mod sdp;
pub mod session;
pub mod url;
mod writer;

pub use auth::{AuthError, Authenticator};
pub use framer::{Event, Framer, FramerError};
pub use message::{Headers, Request, Response};
pub use sdp::{Media, MediaKind, SdpError, SessionDescription};
pub use session::{Channels, Leftover, Method, RtpInfo, Session, SessionConfig, SessionError, SessionEvent};
pub use url::{CameraUrl, Credentials, Scheme, UrlError};
