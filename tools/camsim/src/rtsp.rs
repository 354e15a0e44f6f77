//! The RTSP server of one connection: a request goes in, a reply and what follows from it come out (RFC 2326).

use std::sync::Arc;

use crate::auth::{Challenge, Guard};
use crate::farm::Farm;
use crate::faults::Fault;
use crate::flood::Flood;
use crate::player::Player;
use crate::request::Request;
use crate::rng::Rng;
use crate::sdp;

/// State of one connection. A session id is good on the connection that it was given to.
#[derive(Debug)]
pub(crate) struct RtspConnection {
    session_id: String,
    guard: Guard,
    setup: Option<Setup>,
}

#[derive(Debug, Clone, Copy)]
struct Setup {
    camera: usize,
    channel: u8,
}

/// What to send, and what to do then.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) effect: Effect,
}

/// What a request changes outside of the protocol.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Start to send.
    Play(Box<Player>),
    /// Stop sending.
    Pause,
    /// Send garbage without end.
    Flood(Flood),
    /// The client is done with `camera`: close when the reply is out.
    TearDown {
        /// Index in the farm.
        camera: usize,
    },
    /// Credentials for `camera` were refused. A request without any, which every client begins with, is no refusal.
    RefuseLogin {
        /// Index in the farm.
        camera: usize,
        /// They were right, but made with a nonce that is too old.
        stale: bool,
    },
}

impl RtspConnection {
    pub(crate) fn new(rng: &mut Rng, now_ns: u64) -> Self {
        Self { session_id: format!("{:08x}", rng.next_u32()), guard: Guard::new(rng, now_ns), setup: None }
    }

    /// Answers one request.
    pub(crate) fn reply(&mut self, request: &Request, farm: &Farm, now_ns: u64, rng: &mut Rng) -> Reply {
        let respond = Responder { request };
        if request.method == "OPTIONS" {
            return respond.with(200, &[("Public", PUBLIC)], "");
        }
        if let Some(access) = &farm.config.access
            && let Err(challenge) = self.guard.check(request, access, now_ns, rng)
        {
            return refuse(request, farm, &challenge);
        }
        match request.method.as_str() {
            "DESCRIBE" => describe(request, farm),
            "SETUP" => self.set_up(request, farm),
            "PLAY" => self.play(request, farm, now_ns, rng),
            "PAUSE" => self.in_session(request, |_| Effect::Pause),
            "TEARDOWN" => self.in_session(request, |camera| Effect::TearDown { camera }),
            // Keep-alives: good with and without a session.
            "GET_PARAMETER" | "SET_PARAMETER" => respond.with(200, &[], ""),
            _ => respond.with(501, &[], ""),
        }
    }

    fn set_up(&mut self, request: &Request, farm: &Farm) -> Reply {
        let respond = Responder { request };
        let (name, track) = camera_and_track(&request.url);
        let Some(camera) = farm.find(name).filter(|_| track.is_empty() || track == sdp::TRACK) else {
            return respond.with(404, &[], "");
        };
        let Some(channel) = interleaved_channel(request.header("Transport").unwrap_or_default()) else {
            return respond.with(461, &[], "");
        };
        self.setup = Some(Setup { camera, channel });
        let transport = format!("RTP/AVP/TCP;unicast;interleaved={channel}-{}", channel.wrapping_add(1));
        let session = format!("{};timeout={}", self.session_id, farm.config.session_timeout_s);
        respond.with(200, &[("Transport", &transport), ("Session", &session)], "")
    }

    fn play(&self, request: &Request, farm: &Farm, now_ns: u64, rng: &mut Rng) -> Reply {
        let respond = Responder { request };
        let (Some(Setup { camera, channel }), true) = (self.setup, self.owns(request)) else {
            return respond.with(454, &[], "");
        };
        let Some(media) = farm.cameras.get(camera).map(|camera| &camera.media) else {
            return respond.with(454, &[], "");
        };
        let player = Player::new(camera, Arc::clone(media), channel, now_ns, rng);
        let base = base_url(&request.url);
        let info = format!("url={base}{};{}", sdp::TRACK, player.rtp_info());
        let headers =
            [("Session", self.session_id.as_str()), ("Range", "npt=0.000-"), ("RTP-Info", info.as_str())];
        let mut reply = respond.with(200, &headers, "");
        reply.effect = if farm.config.faults.contains(&Fault::EndlessFu) {
            Effect::Flood(Flood::Fragments { codec: media.codec, channel, packets: 0 })
        } else {
            Effect::Play(Box::new(player))
        };
        reply
    }

    fn in_session(&self, request: &Request, effect: impl Fn(usize) -> Effect) -> Reply {
        let respond = Responder { request };
        match self.setup {
            Some(Setup { camera, .. }) if self.owns(request) => {
                Reply { effect: effect(camera), ..respond.with(200, &[("Session", &self.session_id)], "") }
            }
            _ => respond.with(454, &[], ""),
        }
    }

    fn owns(&self, request: &Request) -> bool {
        let session = request.header("Session").unwrap_or_default();
        session.split(';').next().is_some_and(|id| id.trim() == self.session_id)
    }
}

fn refuse(request: &Request, farm: &Farm, challenge: &Challenge) -> Reply {
    let reply = Responder { request }.with(401, &[("WWW-Authenticate", &challenge.header)], "");
    let camera = request.header("Authorization").and_then(|_| farm.find(camera_and_track(&request.url).0));
    let effect = camera.map(|camera| Effect::RefuseLogin { camera, stale: challenge.stale });
    Reply { effect: effect.unwrap_or(Effect::None), ..reply }
}

fn describe(request: &Request, farm: &Farm) -> Reply {
    let respond = Responder { request };
    let (name, _) = camera_and_track(&request.url);
    let Some(camera) = farm.find(name).and_then(|index| farm.cameras.get(index)) else {
        return respond.with(404, &[], "");
    };
    let base = base_url(&request.url);
    let body = sdp::describe(&camera.media, &farm.config.faults);
    let headers = [("Content-Base", base.as_str()), ("Content-Type", "application/sdp")];
    for fault in &farm.config.faults {
        if let Some(reply) = bent(&respond, *fault, headers, &body) {
            return reply;
        }
    }
    respond.with(200, &headers, &body)
}

/// The answer to DESCRIBE that `fault` asks for, if it is about DESCRIBE.
fn bent(respond: &Responder<'_>, fault: Fault, headers: [(&str, &str); 2], body: &str) -> Option<Reply> {
    Some(match fault {
        Fault::Status(401) => {
            respond.with(401, &[("WWW-Authenticate", "Digest realm=\"closed\", nonce=\"0\"")], "")
        }
        Fault::Status(status) => respond.with(status, &[], ""),
        Fault::HugeHeader => {
            let [base, kind] = headers;
            respond.with(200, &[("X-Padding", &"a".repeat(HUGE_HEADER_LEN)), base, kind], body)
        }
        Fault::HugeBody => {
            respond.without_end("Content-Type: application/sdp\r\nContent-Length: 99999999999\r\n\r\n")
        }
        Fault::EndlessHeader => respond.without_end("X-Endless: "),
        Fault::NoVideo
        | Fault::CodecVp8
        | Fault::EndlessFu
        | Fault::CloseAfter(_)
        | Fault::StallAfter(_)
        | Fault::Garbage
        | Fault::Lose(_)
        | Fault::NoMarker
        | Fault::SsrcChange(_)
        | Fault::ServerRequest => return None,
    })
}

/// Writes responses to one request.
struct Responder<'a> {
    request: &'a Request,
}

impl Responder<'_> {
    fn with(&self, status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut text = self.start(status);
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        Reply { bytes: text.into_bytes(), effect: Effect::None }
    }

    /// A response that starts well and then goes on for ever.
    fn without_end(&self, text: &str) -> Reply {
        Reply { bytes: (self.start(200) + text).into_bytes(), effect: Effect::Flood(Flood::Letters) }
    }

    fn start(&self, status: u16) -> String {
        let sequence = self.request.header("CSeq").unwrap_or("0");
        format!("RTSP/1.0 {status} {}\r\nCSeq: {sequence}\r\nServer: vms-camsim\r\n", reason(status))
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        453 => "Not Enough Bandwidth",
        454 => "Session Not Found",
        461 => "Unsupported Transport",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

/// First RTP channel of the first TCP transport that the client offers; 0 when it names none.
fn interleaved_channel(transport: &str) -> Option<u8> {
    let offer = transport.split(',').map(str::trim).find(|offer| offer.starts_with("RTP/AVP/TCP"))?;
    let channels = offer.split(';').find_map(|parameter| parameter.trim().strip_prefix("interleaved="));
    match channels {
        Some(channels) => channels.split('-').next()?.parse().ok(),
        None => Some(0),
    }
}

/// `rtsp://host/NAME/TRACK?query` gives (NAME, TRACK).
fn camera_and_track(url: &str) -> (&str, &str) {
    let path =
        url.split_once("://").map_or(url, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    let path = path.split('?').next().unwrap_or_default().trim_matches('/');
    path.split_once('/').unwrap_or((path, ""))
}

/// URL of the presentation, with a slash at its end.
fn base_url(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    format!("{}/", url.trim_end_matches('/'))
}

const PUBLIC: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN";
const HUGE_HEADER_LEN: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Access, Config, Scheme};

    struct Client {
        connection: RtspConnection,
        farm: Farm,
        rng: Rng,
    }

    impl Client {
        fn new(faults: &[Fault]) -> Self {
            let mut rng = Rng::new(7);
            let config = Config { faults: faults.to_vec(), ..Config::new(([127, 0, 0, 1], 0).into()) };
            Self { connection: RtspConnection::new(&mut rng, 0), farm: Farm::new(config).unwrap(), rng }
        }

        fn send(&mut self, line: &str, headers: &str) -> (String, Effect) {
            let mut input = format!("{line} RTSP/1.0\r\nCSeq: 9\r\n{headers}\r\n").into_bytes();
            let request = crate::request::next(&mut input).unwrap().unwrap();
            let reply = self.connection.reply(&request, &self.farm, 0, &mut self.rng);
            (String::from_utf8(reply.bytes).unwrap(), reply.effect)
        }

        fn session(&self) -> String {
            format!("Session: {}\r\n", self.connection.session_id)
        }
    }

    #[test]
    fn a_whole_session() {
        let mut client = Client::new(&[]);
        let (text, _) = client.send("DESCRIBE rtsp://h:1/h264?x=1", "");
        assert!(text.starts_with("RTSP/1.0 200 OK\r\nCSeq: 9\r\n") && text.contains("m=video"));
        assert!(text.contains("Content-Base: rtsp://h:1/h264/\r\n"));
        let tcp = "Transport: RTP/AVP;unicast;client_port=1-2,RTP/AVP/TCP;unicast;interleaved=8-9\r\n";
        let (text, _) = client.send("SETUP rtsp://h:1/h264/trackID=0", tcp);
        assert!(text.contains("interleaved=8-9") && text.contains(";timeout=60"), "{text}");
        let session = client.session();
        let (text, effect) = client.send("PLAY rtsp://h:1/h264/", &session);
        assert!(text.contains("RTP-Info: url=rtsp://h:1/h264/trackID=0;seq="), "{text}");
        assert!(matches!(effect, Effect::Play(_)));
        let (_, effect) = client.send("TEARDOWN rtsp://h:1/h264/", &session);
        assert!(matches!(effect, Effect::TearDown { camera: 0 }));
    }

    #[test]
    fn refused_credentials_are_told_from_none() {
        let mut client = Client::new(&[]);
        client.farm.config.access = Some(Access {
            user: "u".to_owned(),
            password: "p".to_owned(),
            scheme: Scheme::Basic,
            nonce_lifetime_s: None,
        });
        let describe = "DESCRIBE rtsp://h:1/h265";
        assert!(matches!(client.send(describe, "").1, Effect::None));
        let (text, effect) = client.send(describe, "Authorization: Basic eDp5\r\n");
        assert!(text.starts_with("RTSP/1.0 401"), "{text}");
        assert!(matches!(effect, Effect::RefuseLogin { camera: 1, stale: false }), "{effect:?}");
    }

    #[test]
    fn refusals() {
        let mut client = Client::new(&[]);
        let mut status = |line: &str, headers: &str| client.send(line, headers).0[9..12].to_owned();
        assert_eq!(status("DESCRIBE rtsp://h/none", ""), "404");
        assert_eq!(status("DESCRIBE *", ""), "404");
        assert_eq!(
            status("SETUP rtsp://h/h264/trackID=0", "Transport: RTP/AVP;unicast;client_port=1-2\r\n"),
            "461"
        );
        assert_eq!(status("SETUP rtsp://h/h264/trackID=9", "Transport: RTP/AVP/TCP\r\n"), "404");
        assert_eq!(status("PLAY rtsp://h/h264/", ""), "454");
        assert_eq!(status("SETUP rtsp://h/h264/", "Transport: RTP/AVP/TCP\r\n"), "200");
        assert_eq!(status("PLAY rtsp://h/h264/", "Session: other\r\n"), "454");
        assert_eq!(status("RECORD rtsp://h/h264/", ""), "501");
    }

    #[test]
    fn faults_of_describe() {
        let describe = |fault| Client::new(&[fault]).send("DESCRIBE rtsp://h/h264", "");
        assert!(describe(Fault::Status(453)).0.starts_with("RTSP/1.0 453 "));
        assert!(describe(Fault::Status(401)).0.contains("WWW-Authenticate"));
        assert!(describe(Fault::HugeHeader).0.len() > HUGE_HEADER_LEN);
        assert!(matches!(describe(Fault::HugeBody).1, Effect::Flood(_)));
        assert!(describe(Fault::EndlessHeader).0.ends_with("X-Endless: "));
    }
}
