//! A simulated camera's side of RTSP (RFC 2326): what it answers on one connection, and whether it was asked properly.
//!
//! Written from the RFC and not from the daemon's client, whose requests it checks: each has the next CSeq, names what was set up,
//! carries the session and, to the right host only, the login.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use vms_media::codec::Codec;
use vms_media::ingest::Reason;

use crate::conduct::{Blame, Conduct, Description, Flood, Redirect};
use crate::plan::{CameraPlan, Login};
use crate::video::{PAYLOAD_TYPE, parameter_sets};

pub(crate) const USER: &str = "operator";
pub(crate) const PASSWORD: &str = "canary-Pa55word";

/// Bytes of a header without an end: more than a stream may hold.
const ENDLESS_LEN: usize = 1_100_000;

/// What the camera does upon a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing at all.
    None,
    /// Sends this after the connection's delay.
    Send { bytes: Vec<u8>, and: Then },
    /// Closes the connection.
    HangUp,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// Pictures.
    Play,
    /// The session ends.
    Stop,
    /// A megabyte of noise.
    Noise,
}

/// One connection's server.
#[derive(Debug)]
pub(crate) struct Server {
    login: Login,
    codec: Codec,
    conduct: Conduct,
    /// As it stands in the URL.
    host: String,
    number: u8,
    /// The credentials are not for this host.
    is_foreign: bool,
    input: Vec<u8>,
    last_cseq: u32,
    session: Option<String>,
    /// Seconds after which the camera forgets a session.
    timeout_s: u64,
    nonce: u32,
    nonce_used: u32,
    has_challenged: bool,
    is_playing: bool,
    redirects: u32,
    /// An answer was taken for the rest of a frame that was cut short: what it said, the daemon does not know.
    pub(crate) has_lost_answer: bool,
    /// Requests with a login that was refused.
    pub(crate) refused: u32,
    /// Requests and reports that came.
    pub(crate) requests: u32,
    pub(crate) reports: u32,
    pub(crate) answers: u32,
}

/// A request as it came.
#[derive(Debug)]
struct Request {
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
}

impl Server {
    pub(crate) fn new(
        plan: &CameraPlan,
        conduct: &Conduct,
        is_foreign: bool,
        redirects: u32,
        timeout_s: u64,
    ) -> Self {
        Self {
            login: if conduct.is_locked && plan.login == Login::None { Login::Basic } else { plan.login },
            codec: plan.codec,
            conduct: conduct.clone(),
            host: host(plan),
            number: plan.number,
            is_foreign,
            input: Vec::new(),
            last_cseq: 0,
            session: None,
            timeout_s,
            nonce: 1,
            nonce_used: 0,
            has_challenged: false,
            is_playing: false,
            redirects,
            has_lost_answer: false,
            refused: 0,
            requests: 0,
            reports: 0,
            answers: 0,
        }
    }

    /// How long the camera keeps a session of which it hears nothing.
    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }

    /// Bytes from the daemon; what they are answered, each answer with what may be said of it.
    pub(crate) fn receive(&mut self, bytes: &[u8], blame: &mut Blame) -> Vec<Answer> {
        self.input.extend_from_slice(bytes);
        let mut answers = Vec::new();
        loop {
            if let [b'$', channel, high, low, rest @ ..] = self.input.as_slice() {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                if rest.len() < len {
                    break;
                }
                assert_eq!(
                    *channel,
                    self.conduct.channel.wrapping_add(1),
                    "reports go on the channel for them"
                );
                assert!(rest[0] >> 6 == 2 && rest[1] == 201, "a receiver report: {:?}", &rest[..len]);
                self.reports += 1;
                self.input.drain(..4 + len);
                continue;
            }
            let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") else { break };
            let text = String::from_utf8(self.input.drain(..end + 4).collect()).unwrap();
            if text.starts_with("RTSP/1.0 ") {
                assert!(text.starts_with("RTSP/1.0 200 ") || text.starts_with("RTSP/1.0 501 "), "{text}");
                self.answers += 1;
                continue;
            }
            let request = Request::parse(&text);
            self.check(&request);
            answers.push(self.answer(&request, blame));
        }
        answers
    }

    fn check(&mut self, request: &Request) {
        self.requests += 1;
        let cseq: u32 = request.header("CSeq").unwrap().parse().unwrap();
        assert!(cseq > self.last_cseq, "CSeq {cseq} after {}", self.last_cseq);
        self.last_cseq = cseq;
        assert!(
            request.uri.starts_with("rtsp://10.0.") || request.uri.starts_with("rtsp://cam"),
            "{request:?}"
        );
        assert!(!request.uri.contains('@') && request.header("User-Agent").is_some(), "{request:?}");
        let opened = matches!(request.method.as_str(), "PLAY" | "GET_PARAMETER" | "TEARDOWN");
        if let (Some(session), true) = (&self.session, opened) {
            assert_eq!(request.header("Session"), Some(session.as_str()), "{request:?}");
        }
        if self.is_foreign || !self.has_challenged {
            assert_eq!(request.header("Authorization"), None, "a login for whom it is not for: {request:?}");
        }
        assert!(self.is_playing || self.requests < 30, "it is asked again and again");
    }

    fn answer(&mut self, request: &Request, blame: &mut Blame) -> Answer {
        let step = match request.method.as_str() {
            "OPTIONS" if !self.is_playing => 0,
            "DESCRIBE" => 1,
            "SETUP" => 2,
            "PLAY" => 3,
            "OPTIONS" | "GET_PARAMETER" => 4,
            "TEARDOWN" => 5,
            other => panic!("{other}: {request:?}"),
        };
        if self.conduct.is_not_rtsp {
            blame.add(&[Reason::NotRtsp]);
            let bytes = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nIt works!".to_vec();
            return Answer::Send { bytes, and: Then::Nothing };
        }
        if self.conduct.mute == Some(step) || (self.conduct.is_deaf && step > 3) {
            let silent = if step == 0 { &[][..] } else { &[Reason::ReplyTimeout, Reason::NotRtsp] };
            blame.add(silent);
            return Answer::None;
        }
        if self.conduct.hang_up == Some(step) {
            blame.add(&[Reason::ConnectionClosed]);
            return Answer::HangUp;
        }
        if let Some(flood) = self.conduct.flood.filter(|_| step == 1) {
            return self.flood(request, flood, blame);
        }
        if step > 0
            && let Some(refusal) = self.refusal(request, blame)
        {
            return refusal;
        }
        if let Some((_, status)) = self.conduct.status.filter(|(at, _)| *at == step) {
            blame.add(refusal_reason(step, status));
            return self.reply(request, status, "", "", Then::Nothing);
        }
        match step {
            0 => self.reply(
                request,
                200,
                "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n",
                "",
                Then::Nothing,
            ),
            1 => self.describe(request, blame),
            2 => self.set_up(request, blame),
            3 => {
                self.is_playing = true;
                self.reply(request, 200, "RTP-Info: url=x;seq=0;rtptime=0\r\n", "", Then::Play)
            }
            4 => self.reply(request, 200, "", "", Then::Nothing),
            _ => {
                self.session = None;
                self.reply(request, 200, "", "", Then::Stop)
            }
        }
    }

    /// 401, unless the request shows who it is from.
    fn refusal(&mut self, request: &Request, blame: &mut Blame) -> Option<Answer> {
        let given = request.header("Authorization");
        let (is_right, is_stale) = match (self.login, given) {
            (Login::None, _) => return None,
            (_, None) => (false, false),
            (Login::Basic, Some(given)) => {
                let right = format!("Basic {}", BASE64.encode(format!("{USER}:{PASSWORD}")));
                assert_eq!(given, right, "the login that was configured");
                (true, false)
            }
            (Login::Digest, Some(given)) => {
                assert!(
                    given.starts_with("Digest ") && given.contains(&format!("username=\"{USER}\"")),
                    "{given}"
                );
                assert!(given.contains(&format!("uri=\"{}\"", request.uri)), "{given}: {request:?}");
                assert!(!given.contains(PASSWORD));
                self.nonce_used += 1;
                let is_stale = self.conduct.nonce_uses.is_some_and(|uses| self.nonce_used > uses);
                let is_ours = given.contains(&format!("nonce=\"{}\"", self.nonce_text()));
                // The last word may cross the challenge that names another.
                let may_be_old = request.method == "TEARDOWN" || self.has_lost_answer;
                assert!(is_ours || may_be_old, "the newest nonce is used: {given}");
                (is_ours && !is_stale, is_stale || !is_ours)
            }
        };
        if is_right && !self.conduct.is_locked {
            return None;
        }
        if given.is_some() && !is_stale {
            self.refused += 1;
        }
        if self.conduct.is_locked || self.is_foreign {
            blame.add(&[Reason::AuthRefused]);
        }
        if is_stale {
            self.nonce += 1;
            self.nonce_used = 0;
        }
        self.has_challenged = true;
        let challenge = match self.login {
            Login::None | Login::Basic => "WWW-Authenticate: Basic realm=\"cam\"\r\n".to_owned(),
            Login::Digest => {
                let stale = if is_stale { ", stale=true" } else { "" };
                format!(
                    "WWW-Authenticate: Digest realm=\"cam\", nonce=\"{}\", qop=\"auth\"{stale}\r\n",
                    self.nonce_text()
                )
            }
        };
        Some(self.reply(request, 401, &challenge, "", Then::Nothing))
    }

    fn nonce_text(&self) -> String {
        format!("nonce{:08}", self.nonce)
    }

    fn describe(&self, request: &Request, blame: &mut Blame) -> Answer {
        if let Some(redirect) = self.conduct.redirect {
            if self.redirects >= 3 {
                blame.add(&[Reason::RequestRefused]);
            }
            let to = match redirect {
                Redirect::SameHost | Redirect::Loop => format!("rtsp://{}/again", self.host),
                Redirect::OtherHost => format!("rtsp://10.0.{}.2/elsewhere", self.number),
            };
            return self.reply(request, 302, &format!("Location: {to}\r\n"), "", Then::Nothing);
        }
        let video = format!("m=video 0 RTP/AVP {PAYLOAD_TYPE}\r\na=rtpmap:{PAYLOAD_TYPE}");
        let media = match self.conduct.description {
            Description::Video => {
                let codec = if self.codec == Codec::H264 { "H264" } else { "H265" };
                format!(
                    "{video} {codec}/90000\r\na=fmtp:{PAYLOAD_TYPE} {}\r\na=control:track1\r\n",
                    self.sprop()
                )
            }
            Description::OtherCodec => {
                blame.add(&[Reason::UnsupportedCodec]);
                format!("{video} VP8/90000\r\n")
            }
            Description::Audio => {
                blame.add(&[Reason::NoVideo]);
                "m=audio 0 RTP/AVP 0\r\n".to_owned()
            }
            Description::Rubbish => {
                blame.add(&[Reason::BadSdp, Reason::NoVideo]);
                let rubbish = "this is no description\r\n";
                return self.reply(request, 200, "", rubbish, Then::Nothing);
            }
        };
        let sdp = format!("v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=sim\r\nt=0 0\r\na=control:*\r\n{media}");
        self.reply(request, 200, "Content-Type: application/sdp\r\n", &sdp, Then::Nothing)
    }

    fn sprop(&self) -> String {
        let sets: Vec<String> = parameter_sets(self.codec).iter().map(|set| BASE64.encode(set)).collect();
        match sets.as_slice() {
            [vps, sps, pps] => format!("sprop-vps={vps};sprop-sps={sps};sprop-pps={pps}"),
            sets => format!("packetization-mode=1;sprop-parameter-sets={}", sets.join(",")),
        }
    }

    fn set_up(&mut self, request: &Request, blame: &mut Blame) -> Answer {
        assert!(request.header("Transport").is_some_and(|asked| asked.contains("/TCP")), "{request:?}");
        if self.conduct.wants_datagrams {
            blame.add(&[Reason::UnsupportedTransport]);
            let transport =
                "Transport: RTP/AVP/UDP;unicast;client_port=5-6;server_port=7-8\r\nSession: 1\r\n";
            self.session = Some("1".to_owned());
            return self.reply(request, 200, transport, "", Then::Nothing);
        }
        let session = format!("s{}{}", self.number, self.last_cseq);
        let channel = self.conduct.channel;
        let transport = if self.conduct.is_sloppy && channel == 0 {
            String::new()
        } else {
            format!("Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{}\r\n", channel.wrapping_add(1))
        };
        let trailing = if self.conduct.is_sloppy { " ; x=y" } else { "" };
        let headers = format!("{transport}Session: {session};timeout={}{trailing}\r\n", self.timeout_s);
        self.session = Some(session);
        self.reply(request, 200, &headers, "", Then::Nothing)
    }

    fn reply(&self, request: &Request, status: u16, headers: &str, body: &str, and: Then) -> Answer {
        let cseq = request.header("CSeq").unwrap();
        let length =
            if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = if self.conduct.is_sloppy {
            // Without a CSeq, or with one that belongs to nothing.
            let cseq = if self.last_cseq.is_multiple_of(2) { "" } else { "CSeq: 999999\r\n" };
            format!("RTSP/1.0 {status}\r\n{cseq}{headers}{length}\r\n").replace("\r\n", "\n")
        } else {
            format!("RTSP/1.0 {status} X\r\nCSeq: {cseq}\r\n{headers}{length}\r\n")
        };
        Answer::Send { bytes: (head + body).into_bytes(), and }
    }

    fn flood(&self, request: &Request, flood: Flood, blame: &mut Blame) -> Answer {
        // Behind a body that stops, and behind bytes without any sense, it may as well be called silent.
        blame.add(match flood {
            Flood::Line | Flood::Headers => &[Reason::LimitExceeded],
            Flood::Body | Flood::Bytes => &[Reason::LimitExceeded, Reason::NotRtsp, Reason::ReplyTimeout],
        });
        let cseq = request.header("CSeq").unwrap();
        let head = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n");
        let text = match flood {
            Flood::Line => head + "X: " + &"a".repeat(ENDLESS_LEN),
            Flood::Headers => head + &"X: y\r\n".repeat(400),
            Flood::Body => head + "Content-Length: 200000\r\n\r\n" + &"a".repeat(150_000),
            Flood::Bytes => return Answer::Send { bytes: Vec::new(), and: Then::Noise },
        };
        Answer::Send { bytes: text.into_bytes(), and: Then::Nothing }
    }
}

/// The camera's host as its URL says it.
pub(crate) fn host(plan: &CameraPlan) -> String {
    if plan.has_name { format!("cam{}.example", plan.number) } else { format!("10.0.{}.1", plan.number) }
}

/// What a status is to be called, by the API's words for it.
const fn refusal_reason(step: usize, status: u16) -> &'static [Reason] {
    match (step, status) {
        (0, _) => &[],
        (_, 403) => &[Reason::Forbidden],
        (1, 404) => &[Reason::NotFound],
        (_, 453) => &[Reason::SessionLimit],
        (_, 461) => &[Reason::UnsupportedTransport],
        (_, 503) => &[Reason::ServiceUnavailable],
        _ => &[Reason::RequestRefused],
    }
}

impl Request {
    fn parse(text: &str) -> Self {
        let mut lines = text.trim_end().split("\r\n");
        let mut start = lines.next().unwrap().split(' ');
        let (Some(method), Some(uri), Some("RTSP/1.0"), None) =
            (start.next(), start.next(), start.next(), start.next())
        else {
            panic!("no request: {text}")
        };
        let headers =
            lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no header: {line:?}")));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { method: method.to_owned(), uri: uri.to_owned(), headers }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
