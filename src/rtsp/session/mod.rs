//! The client side of one RTSP connection, without the connection (RFC 2326).
//!
//! ```text
//!  OPTIONS ─▶ DESCRIBE ─▶ SETUP ─▶ PLAY ─▶ playing: keepalives ─▶ TEARDOWN
//!  (any answer will do)  video, TCP        (any answer will do)
//! ```
//!
//! The caller feeds messages and times, drains events and bytes, and calls [`Session::handle_timeout`] when
//! [`Session::poll_timeout`] says. One request is under way at a time. Until PLAY is answered every request has
//! a deadline; afterwards only the media's silence, which the caller watches, ends a session, because cameras
//! answer keepalives wrongly or not at all while they stream well. Video that comes stands for an answer to PLAY
//! that does not: a frame that the camera cut short before it has taken it along.

mod error;
mod fields;
mod replies;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

pub use self::error::SessionError;
pub use self::fields::{Channels, RtpInfo};
use super::auth::Authenticator;
use super::control::ControlUris;
use super::message::Request;
use super::sdp::Media;
use super::url::{CameraUrl, Credentials};
use super::writer::MessageWriter;
use crate::limits::OUTBOX_LEN_MAX;
use crate::time::Mono;

/// What a session is told besides its camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// `User-Agent` of every request; some cameras answer 401 to requests without one.
    pub user_agent: String,
    /// How long an answer may take.
    pub reply_timeout: Duration,
    /// How long the answer to TEARDOWN is waited for.
    pub teardown_timeout: Duration,
    /// How often the camera may refuse the password before the session fails.
    pub login_tries: u32,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            user_agent: concat!("vms-media/", env!("CARGO_PKG_VERSION")).to_owned(),
            reply_timeout: Duration::from_secs(5),
            teardown_timeout: Duration::from_secs(1),
            login_tries: 2,
        }
    }
}

/// The requests that we make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `OPTIONS`: a greeting, and a keepalive.
    Options,
    /// `DESCRIBE`
    Describe,
    /// `SETUP`
    Setup,
    /// `PLAY`
    Play,
    /// `GET_PARAMETER`: the usual keepalive.
    GetParameter,
    /// `TEARDOWN`
    Teardown,
}

impl Method {
    /// As on the request line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Options => "OPTIONS",
            Self::Describe => "DESCRIBE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::GetParameter => "GET_PARAMETER",
            Self::Teardown => "TEARDOWN",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happened, for the camera's state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The camera described itself and this video was chosen; SETUP is on its way.
    Described {
        /// The chosen section.
        media: Media,
    },
    /// PLAY was accepted; media comes on these channels.
    Playing {
        /// Where media and RTCP come, and where our RTCP goes.
        channels: Channels,
        /// What the camera announced. Advisory.
        rtp_info: RtpInfo,
    },
    /// The stream is somewhere else. This session is over.
    Redirect {
        /// Where. User information that the camera put there was dropped.
        url: CameraUrl,
        /// Whether it is the same host, so that our credentials may go there too.
        keep_credentials: bool,
    },
    /// The session is over. If [`Session::is_set_up`], a TEARDOWN is still good manners.
    Failed(SessionError),
    /// TEARDOWN was answered, or waited for in vain, or not needed: the connection can be closed.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// OPTIONS to PLAY, by the request under way.
    Opening,
    Playing,
    /// Failed or redirected; TEARDOWN is still possible.
    Over,
    TearingDown,
    Closed,
}

/// A session that a camera may still hold for us, because the connection ended before we could say goodbye.
#[derive(Clone, PartialEq, Eq)]
pub struct Leftover {
    id: String,
    /// When the camera has forgotten it by itself. From then on the name may be somebody else's.
    until: Mono,
}

/// A request that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    method: Method,
    cseq: u32,
    deadline: Mono,
}

/// One connection's client.
pub struct Session {
    url: CameraUrl,
    config: SessionConfig,
    authenticator: Authenticator,
    phase: Phase,
    uris: ControlUris,
    in_flight: Option<InFlight>,
    next_cseq: u32,
    /// The last request that was given up: its answer may still come and must not be taken for another's.
    abandoned: Option<u32>,
    session_id: Option<String>,
    /// To be ended if the camera has no session left for us.
    leftover: Option<Leftover>,
    is_set_up: bool,
    /// Video came since PLAY was said.
    has_video: bool,
    channels: Channels,
    /// The source that SETUP was answered with.
    ssrc: Option<u32>,
    keepalive: Keepalive,
    outbox: Vec<u8>,
    events: VecDeque<SessionEvent>,
}

#[derive(Debug)]
struct Keepalive {
    /// The camera's session timeout.
    timeout: Duration,
    method: Method,
    /// Whether GET_PARAMETER was listed in Public; some cameras hang up on what they did not list.
    knows_get_parameter: bool,
    next: Option<Mono>,
}

impl Session {
    /// A session for a connection that is about to be made. `seed` decides the client nonces of Digest and must
    /// not be guessable.
    pub fn new(url: &CameraUrl, credentials: Option<&Credentials>, config: SessionConfig, seed: u64) -> Self {
        let uri = url.request_uri();
        Self {
            url: url.clone(),
            authenticator: Authenticator::new(credentials.cloned(), seed, config.login_tries),
            config,
            phase: Phase::Idle,
            uris: ControlUris { aggregate: uri.clone(), media: uri },
            in_flight: None,
            next_cseq: 1,
            abandoned: None,
            session_id: None,
            leftover: None,
            is_set_up: false,
            has_video: false,
            channels: ASKED_CHANNELS,
            ssrc: None,
            keepalive: Keepalive::new(),
            outbox: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// What an earlier session to the same camera has left there. When the camera refuses SETUP because it has no session left, this
    /// one is torn down and SETUP tried once more.
    pub fn set_leftover(&mut self, leftover: Leftover) {
        self.leftover = Some(leftover);
    }

    /// What is left at the camera if the connection ends at `now`.
    pub fn leftover(&self, now: Mono) -> Option<Leftover> {
        match &self.session_id {
            Some(id) => Some(Leftover { id: id.clone(), until: now + self.keepalive.timeout }),
            None => self.leftover.clone(),
        }
    }

    /// The connection stands: begins with OPTIONS. Does nothing the second time.
    pub fn start(&mut self, now: Mono) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Opening;
            self.send(Method::Options, now);
        }
    }

    /// Answers the camera's own requests. Some cameras ask for signs of life this way and stop without.
    pub fn on_request(&mut self, request: &Request) {
        let (status, reason) = match request.method.as_str() {
            "OPTIONS" | "GET_PARAMETER" | "SET_PARAMETER" | "ANNOUNCE" => (200, "OK"),
            _ => (501, "Not Implemented"),
        };
        let mut reply = MessageWriter::response(status, reason);
        if let Some(cseq) = request.headers.first("CSeq").filter(|cseq| cseq.len() <= CSEQ_LEN_MAX) {
            reply = reply.header("CSeq", cseq);
        }
        self.enqueue(reply.header("User-Agent", &self.config.user_agent).finish());
    }

    /// Ends the session in good order: says TEARDOWN if the camera holds anything for us. `Closed` follows. What else was about
    /// to be said is not, or there might be no room for it.
    pub fn teardown(&mut self, now: Mono) {
        if matches!(self.phase, Phase::TearingDown | Phase::Closed) {
            return;
        }
        self.abandon();
        self.outbox.clear();
        self.keepalive.next = None;
        if self.is_set_up {
            self.phase = Phase::TearingDown;
            self.send(Method::Teardown, now);
        } else {
            self.close();
        }
    }

    /// When to call [`Session::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Mono> {
        let reply = self.in_flight.map(|in_flight| in_flight.deadline);
        reply.into_iter().chain(self.keepalive.next).min()
    }

    /// Does what is due at `now`; nothing if nothing is.
    pub fn handle_timeout(&mut self, now: Mono) {
        if let Some(late) = self.in_flight.filter(|in_flight| in_flight.deadline <= now) {
            self.abandon();
            self.on_reply_timeout(late.method, now);
        }
        if self.phase == Phase::Playing && self.keepalive.next.is_some_and(|next| next <= now) {
            self.abandon();
            self.send_keepalive(now);
        }
    }

    /// An access unit came.
    pub const fn note_video(&mut self) {
        self.has_video = true;
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Bytes for the camera, at most [`OUTBOX_LEN_MAX`]. They may hold credentials: for sending only.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.outbox.is_empty()).then(|| std::mem::take(&mut self.outbox))
    }

    /// The channels as far as they are known: as asked until SETUP is answered.
    pub const fn channels(&self) -> Channels {
        self.channels
    }

    /// How the session is kept alive: by which request, and how often.
    pub fn keepalive(&self) -> (Method, Duration) {
        (self.keepalive.method, self.keepalive.interval())
    }

    /// Whether it is worth a TEARDOWN, and another SETUP, that the camera has no session left for us.
    fn can_make_room(&self, method: Method, status: u16, now: Mono) -> bool {
        let is_full = method == Method::Setup && matches!(status, 453 | 503);
        is_full && self.leftover.as_ref().is_some_and(|leftover| now < leftover.until)
    }

    /// Whether SETUP was accepted, so that the camera holds a session until it hears TEARDOWN or times out.
    pub const fn is_set_up(&self) -> bool {
        self.is_set_up
    }

    fn on_reply_timeout(&mut self, method: Method, now: Mono) {
        match self.phase {
            // Cameras that do not know OPTIONS may say nothing at all.
            Phase::Opening if method == Method::Options => self.send(Method::Describe, now),
            Phase::Opening if method == Method::Teardown => self.send(Method::Setup, now),
            Phase::Opening if method == Method::Play && self.has_video => self.play(RtpInfo::default(), now),
            Phase::Opening => self.fail(SessionError::ReplyTimeout { method }),
            Phase::Playing => self.keepalive.change_method(),
            Phase::TearingDown => self.close(),
            Phase::Idle | Phase::Over | Phase::Closed => {}
        }
    }

    fn send_keepalive(&mut self, now: Mono) {
        self.keepalive.next = Some(now + self.keepalive.interval());
        self.send(self.keepalive.method, now);
    }

    fn send(&mut self, method: Method, now: Mono) {
        let cseq = self.next_cseq;
        self.next_cseq = self.next_cseq.wrapping_add(1);
        let uri = self.uri(method);
        let authorization = self.authenticator.authorization(method.name(), &uri);
        let timeout =
            if method == Method::Teardown { self.config.teardown_timeout } else { self.config.reply_timeout };
        self.in_flight = Some(InFlight { method, cseq, deadline: now + timeout });
        self.has_video = false;

        let mut request = MessageWriter::request(method.name(), &uri)
            .header("CSeq", cseq)
            .header("User-Agent", &self.config.user_agent);
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        let ends_leftover = method == Method::Teardown && self.phase == Phase::Opening;
        let leftover = self.leftover.take_if(|_| ends_leftover).map(|leftover| leftover.id);
        if let Some(session_id) = self.session_id.as_ref().or(leftover.as_ref()) {
            request = request.header("Session", session_id);
        }
        request = match method {
            Method::Describe => request.header("Accept", "application/sdp"),
            // Without `mode=play`: some cameras refuse it.
            Method::Setup => request.header("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1"),
            Method::Play => request.header("Range", "npt=0.000-"),
            Method::Options | Method::GetParameter | Method::Teardown => request,
        };
        self.enqueue(request.finish());
    }

    fn uri(&self, method: Method) -> String {
        match method {
            Method::Setup => self.uris.media.clone(),
            Method::Options | Method::Describe if self.phase == Phase::Opening => self.url.request_uri(),
            // A keepalive of any kind names the presentation.
            Method::Options | Method::Describe | Method::Play | Method::GetParameter | Method::Teardown => {
                self.uris.aggregate.clone()
            }
        }
    }

    fn enqueue(&mut self, message: Vec<u8>) {
        if self.outbox.len() + message.len() <= OUTBOX_LEN_MAX {
            self.outbox.extend_from_slice(&message);
        } else {
            self.fail(SessionError::ProtocolError { what: "it makes us send too much at a time" });
        }
    }

    /// Stops waiting for the request under way.
    fn abandon(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            self.abandoned = Some(in_flight.cseq);
        }
    }

    fn fail(&mut self, error: SessionError) {
        match self.phase {
            Phase::Idle | Phase::Opening | Phase::Playing => self.finish(SessionEvent::Failed(error)),
            Phase::TearingDown => self.close(),
            Phase::Over | Phase::Closed => {}
        }
    }

    fn finish(&mut self, event: SessionEvent) {
        self.phase = Phase::Over;
        self.in_flight = None;
        self.keepalive.next = None;
        self.events.push_back(event);
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.in_flight = None;
        self.is_set_up = false;
        self.events.push_back(SessionEvent::Closed);
    }
}

impl Keepalive {
    const fn new() -> Self {
        Self {
            timeout: SESSION_TIMEOUT_DEFAULT,
            method: Method::Options,
            knows_get_parameter: false,
            next: None,
        }
    }

    /// Half the camera's timeout, so that one may get lost.
    fn interval(&self) -> Duration {
        (self.timeout / 2).clamp(KEEPALIVE_MIN, KEEPALIVE_MAX)
    }

    /// The camera did not like this one; perhaps it likes the other.
    fn change_method(&mut self) {
        let is_options = self.method == Method::Options;
        self.method =
            if is_options && self.knows_get_parameter { Method::GetParameter } else { Method::Options };
    }
}

impl fmt::Debug for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leftover").field("until", &self.until).finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The outbox may hold an Authorization, and a session id is half a key to the session.
        f.debug_struct("Session")
            .field("url", &self.url)
            .field("phase", &self.phase)
            .field("in_flight", &self.in_flight)
            .field("channels", &self.channels)
            .field("keepalive", &self.keepalive)
            .finish_non_exhaustive()
    }
}

/// What SETUP asks for.
const ASKED_CHANNELS: Channels = Channels { rtp: 0, rtcp: Some(1) };
/// RFC 2326 section 12.37.
const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
const KEEPALIVE_MAX: Duration = Duration::from_secs(30);
/// A longer CSeq is nobody's sequence number and is not repeated.
const CSEQ_LEN_MAX: usize = 32;

#[cfg(test)]
mod tests;
