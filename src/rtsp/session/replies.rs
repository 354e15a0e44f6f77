//! What each answer means: the way from OPTIONS to PLAY, and the ways out of it.

use super::fields::{self, Transport};
use super::{Method, Phase, RtpInfo, Session, SessionError, SessionEvent};
use crate::rtsp::auth::AuthError;
use crate::rtsp::control::ControlUris;
use crate::rtsp::message::Response;
use crate::rtsp::sdp::{self, NoVideo};
use crate::rtsp::url::{CameraUrl, Scheme, UrlError};
use crate::time::Mono;

impl Session {
    /// Takes an answer. Answers that belong to nothing are dropped.
    pub fn on_response(&mut self, response: &Response, now: Mono) {
        let is_provisional = (100..200).contains(&response.status);
        if is_provisional || !self.is_awaited(response) {
            return;
        }
        let Some(answered) = self.in_flight.take() else { return };
        if response.is_success() {
            self.authenticator.accepted();
            self.note_methods(response);
        }
        match (self.phase, answered.method) {
            (Phase::Opening, Method::Options) => self.on_options(response, now),
            // Whatever it says: there is room now, or there is none.
            (Phase::Opening, Method::Teardown) => self.send(Method::Setup, now),
            (Phase::Opening, _) if !response.is_success() => self.on_refusal(answered.method, response, now),
            (Phase::Opening, Method::Describe) => self.on_described(response, now),
            (Phase::Opening, Method::Setup) => self.on_set_up(response, now),
            (Phase::Opening, Method::Play) => self.on_playing(response, now),
            (Phase::Playing, _) => self.on_keepalive(answered.method, response, now),
            (Phase::TearingDown, _) => {
                self.session_id = None;
                self.close();
            }
            (Phase::Opening | Phase::Idle | Phase::Over | Phase::Closed, _) => {}
        }
    }

    /// Whether this answers the request under way. Cameras leave CSeq out, count it wrong or repeat the last
    /// one, and they answer in order; so anything does, except the late answer to a request that was given up.
    fn is_awaited(&self, response: &Response) -> bool {
        let Some(in_flight) = &self.in_flight else { return false };
        let cseq = response.cseq();
        cseq.is_none() || cseq == Some(in_flight.cseq) || cseq != self.abandoned
    }

    fn note_methods(&mut self, response: &Response) {
        if self.phase != Phase::Opening {
            return;
        }
        if response.headers.all("Public").any(|public| fields::lists_method(public, "GET_PARAMETER")) {
            self.keepalive.knows_get_parameter = true;
            self.keepalive.method = Method::GetParameter;
        }
    }

    /// Whatever OPTIONS is answered, DESCRIBE will tell. A challenge is kept, which saves the one to come.
    fn on_options(&mut self, response: &Response, now: Mono) {
        if response.status == 401 {
            // What is wrong with it is reported when DESCRIBE is refused.
            let _ = self.authenticator.challenged(&response.headers);
        }
        self.send(Method::Describe, now);
    }

    fn on_described(&mut self, response: &Response, now: Mono) {
        // Content-Type is missing or misspelled too often to be asked.
        let description = match sdp::parse(&response.body) {
            Ok(description) => description,
            Err(why) => return self.fail(SessionError::BadSdp { why }),
        };
        let media = match description.choose_video() {
            Ok(media) => media,
            Err(NoVideo::NoSection) => return self.fail(SessionError::NoVideo),
            Err(NoVideo::OtherCodec { encoding }) => {
                return self.fail(SessionError::UnsupportedCodec { name: encoding });
            }
        };
        let header = |name| response.headers.first(name).filter(|value| !value.is_empty());
        let base = header("Content-Base").or_else(|| header("Content-Location"));
        self.uris =
            ControlUris::resolve(&self.url, base, description.control.as_deref(), media.control.as_deref());
        self.events.push_back(SessionEvent::Described { media: media.clone() });
        self.send(Method::Setup, now);
    }

    fn on_set_up(&mut self, response: &Response, now: Mono) {
        self.is_set_up = true;
        self.note_session(response);
        let transport = response.headers.first("Transport");
        self.ssrc = transport.and_then(fields::parse_ssrc);
        match transport.map_or(Transport::AsAsked, fields::parse_transport) {
            Transport::Channels(channels) => self.channels = channels,
            Transport::AsAsked => {}
            Transport::Refused => return self.fail(SessionError::TransportRefused),
        }
        self.send(Method::Play, now);
    }

    fn on_playing(&mut self, response: &Response, now: Mono) {
        self.note_session(response);
        self.play(response.headers.first("RTP-Info").map(fields::parse_rtp_info).unwrap_or_default(), now);
    }

    pub(super) fn play(&mut self, rtp_info: RtpInfo, now: Mono) {
        self.phase = Phase::Playing;
        self.keepalive.next = Some(now + self.keepalive.interval());
        let rtp_info = RtpInfo { ssrc: self.ssrc, ..rtp_info };
        self.events.push_back(SessionEvent::Playing { channels: self.channels, rtp_info });
    }

    /// The latest session id wins; some cameras never send one, and want none.
    fn note_session(&mut self, response: &Response) {
        let (id, timeout) = response.headers.first("Session").map(fields::parse_session).unwrap_or_default();
        if !id.is_empty() {
            self.session_id = Some(id.to_owned());
        }
        if let Some(timeout) = timeout {
            self.keepalive.timeout = timeout;
        }
    }

    /// Media decides whether a session lives, so no status ends it here. A 401 is answered once per nonce
    /// (some cameras renew it after minutes); when the login is refused for good, keepalives stop, because the
    /// camera would lock us out.
    fn on_keepalive(&mut self, method: Method, response: &Response, now: Mono) {
        match response.status {
            401 => match self.authenticator.challenged(&response.headers) {
                Ok(()) => self.send(method, now),
                Err(_) => self.keepalive.next = None,
            },
            _ if !response.is_success() => self.keepalive.change_method(),
            _ => {}
        }
    }

    fn on_refusal(&mut self, method: Method, response: &Response, now: Mono) {
        let status = response.status;
        if self.can_make_room(method, status, now) {
            return self.send(Method::Teardown, now);
        }
        let error = match status {
            401 => match self.authenticator.challenged(&response.headers) {
                Ok(()) => return self.send(method, now),
                Err(AuthError::NoCredentials { realm }) => {
                    SessionError::AuthRefused { credentials_set: false, realm }
                }
                Err(AuthError::Refused { realm }) => {
                    SessionError::AuthRefused { credentials_set: true, realm }
                }
                Err(AuthError::Unsupported) => SessionError::AuthUnsupported,
            },
            300..=399 => match response.headers.first("Location").map(|to| self.redirect(to)) {
                Some(Ok(redirect)) => return self.finish(redirect),
                Some(Err(why)) => SessionError::RedirectRefused { why },
                None => SessionError::RequestRefused { method, status },
            },
            403 => SessionError::Forbidden,
            404 if method == Method::Describe => SessionError::NotFound,
            453 => SessionError::SessionLimit,
            461 => SessionError::TransportRefused,
            503 => SessionError::ServiceUnavailable,
            _ => SessionError::RequestRefused { method, status },
        };
        self.fail(error);
    }

    fn redirect(&self, location: &str) -> Result<SessionEvent, UrlError> {
        let text = if location.starts_with('/') { self.url.with_path(location) } else { location.to_owned() };
        // Credentials that a camera hands out are not ours to use.
        let (url, _) = CameraUrl::parse(&text)?;
        let is_downgrade = (self.url.scheme(), url.scheme()) == (Scheme::Rtsps, Scheme::Rtsp);
        let keep_credentials = self.url.is_same_host(&url) && !is_downgrade;
        Ok(SessionEvent::Redirect { url, keep_credentials })
    }
}
