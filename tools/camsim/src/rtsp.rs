//! The RTSP server of one connection: a request goes in, an answer and what follows from it come out (RFC 2326).
//!
//! What is granted is decided here as a camera that behaves would; faults bend the answer before anything follows from it.

use crate::answer::{Answer, Ask, Effect};
use crate::auth::{Challenge, Guard};
use crate::config::{Access, Scheme};
use crate::farm::Farm;
use crate::faults::kind::{Life, On};
use crate::faults::plan::{Active, Plan};
use crate::player::Player;
use crate::request::Request;
use crate::rng::Rng;
use crate::sdp;
use crate::sessions::Sessions;

/// State of one connection. A session id is good on the connection that it was given to.
#[derive(Debug)]
pub(crate) struct RtspConnection {
    /// Number of the connection.
    id: u64,
    /// The camera whose port this is, or that was asked for last.
    camera: Option<usize>,
    /// Empty when the camera gave none, and wants none.
    session_id: String,
    guard: Guard,
    setup: Option<Setup>,
    is_described: bool,
    is_playing: bool,
    previous_cseq: String,
}

#[derive(Debug, Clone, Copy)]
struct Setup {
    camera: usize,
    channel: u8,
}

/// What an answer depends on besides the request.
pub(crate) struct Scene<'a> {
    pub(crate) farm: &'a Farm,
    pub(crate) plan: &'a Plan,
    pub(crate) sessions: &'a mut Sessions,
    pub(crate) rng: &'a mut Rng,
    pub(crate) now_ns: u64,
}

impl RtspConnection {
    /// `camera`: the one whose own port the client came to.
    pub(crate) fn new(id: u64, camera: Option<usize>, rng: &mut Rng, now_ns: u64) -> Self {
        Self {
            id,
            camera,
            session_id: format!("{:08x}", rng.next_u32()),
            guard: Guard::new(rng, now_ns),
            setup: None,
            is_described: false,
            is_playing: false,
            previous_cseq: "0".to_owned(),
        }
    }

    /// The camera that the client wants.
    pub(crate) const fn camera(&self) -> Option<usize> {
        self.camera
    }

    /// SETUP was granted.
    pub(crate) const fn is_set_up(&self) -> bool {
        self.setup.is_some()
    }

    /// The session's name, once SETUP was granted.
    pub(crate) fn session_id(&self) -> &str {
        &self.session_id
    }

    /// Finds out which camera a request is for.
    pub(crate) fn note_camera(&mut self, request: &Request, farm: &Farm) {
        self.camera = farm.find(camera_and_track(&request.url).0).or(self.camera);
    }

    /// Answers one request, whose camera was noted.
    pub(crate) fn answer(&mut self, request: &Request, scene: &mut Scene<'_>) -> Answer {
        let faults = scene.plan.of(self.camera);
        let mut answer = self.grant(request, faults, scene);
        let base = base_url(&request.url);
        let ask = Ask {
            request,
            value: 0,
            previous_cseq: &self.previous_cseq,
            is_described: self.is_described,
            base: &base,
        };
        faults.bend_answer(self.kind(request), &ask, &mut answer);
        self.note(request, &answer);
        answer
    }

    /// The answer of a camera that behaves.
    fn grant(&mut self, request: &Request, faults: &Active, scene: &mut Scene<'_>) -> Answer {
        if request.method == "OPTIONS" {
            return Answer::new(request, 200).with("Public", PUBLIC);
        }
        if let Some(refusal) = self.check_login(request, faults, scene) {
            return refusal;
        }
        match request.method.as_str() {
            "DESCRIBE" => describe(request, scene.farm),
            "SETUP" => self.set_up(request, faults, scene),
            "PLAY" => self.play(request, faults, scene),
            "PAUSE" => self.in_session(request, |_| Effect::Pause),
            "TEARDOWN" if self.ends_orphan(request, scene) => Answer::new(request, 200),
            "TEARDOWN" => self.in_session(request, |camera| Effect::TearDown { camera }),
            // Keep-alives: good with and without a session.
            "GET_PARAMETER" | "SET_PARAMETER" => Answer::new(request, 200),
            _ => Answer::new(request, 501),
        }
    }

    /// The answer to who may not pass.
    fn check_login(&mut self, request: &Request, faults: &Active, scene: &mut Scene<'_>) -> Option<Answer> {
        let deny = faults.life(Life::WrongPassword).is_some();
        let mut access = match (&scene.farm.config.access, deny) {
            (Some(access), _) => access.clone(),
            (None, true) => nobody(),
            (None, false) => return None,
        };
        access.nonce_lifetime_s = faults.life(Life::StaleNonce).or(access.nonce_lifetime_s);
        let checked = self.guard.check(request, &access, deny, scene.now_ns, scene.rng);
        checked.err().map(|challenge| refuse(request, scene.farm, challenge))
    }

    fn set_up(&self, request: &Request, faults: &Active, scene: &mut Scene<'_>) -> Answer {
        let (name, track) = camera_and_track(&request.url);
        let Some(camera) = scene.farm.find(name).filter(|_| track.is_empty() || track == sdp::TRACK) else {
            return Answer::new(request, 404);
        };
        let Some(channel) = interleaved_channel(request.header("Transport").unwrap_or_default()) else {
            return Answer::new(request, 461);
        };
        let others = scene.sessions.others(camera, self.id, scene.now_ns);
        if faults.life(Life::SessionLimit).is_some_and(|limit| others >= limit) {
            return Answer::new(request, 453);
        }
        let transport = format!("RTP/AVP/TCP;unicast;interleaved={channel}-{}", channel.wrapping_add(1));
        let session = format!("{};timeout={}", self.session_id, scene.farm.config.session_timeout_s);
        let answer = Answer::new(request, 200).with("Transport", transport).with("Session", session);
        answer.effect(Effect::SetUp { camera })
    }

    fn play(&self, request: &Request, faults: &Active, scene: &mut Scene<'_>) -> Answer {
        let (Some(Setup { camera, channel }), true) = (self.setup, self.owns(request)) else {
            return Answer::new(request, 454);
        };
        let Some(clip) = scene.farm.clip(camera) else { return Answer::new(request, 454) };
        let mut player = Player::new(camera, clip, channel, scene.now_ns, scene.rng);
        player.begin(faults);
        let info = format!("url={}{};{}", base_url(&request.url), sdp::TRACK, player.rtp_info());
        let answer = Answer::new(request, 200).with("Session", self.session_id.as_str());
        let answer = answer.with("Range", "npt=0.000-").with("RTP-Info", info);
        answer.effect(Effect::Play(Box::new(player)))
    }

    fn in_session(&self, request: &Request, effect: impl Fn(usize) -> Effect) -> Answer {
        match self.setup {
            Some(Setup { camera, .. }) if self.owns(request) => {
                let answer = Answer::new(request, 200).with("Session", self.session_id.as_str());
                answer.effect(effect(camera))
            }
            _ => Answer::new(request, 454),
        }
    }

    /// Whether this was TEARDOWN of a session whose connection is gone.
    fn ends_orphan(&self, request: &Request, scene: &mut Scene<'_>) -> bool {
        let session = request.header("Session").unwrap_or_default();
        self.setup.is_none() && scene.sessions.end_orphan(session_id(session))
    }

    fn owns(&self, request: &Request) -> bool {
        let session = request.header("Session").unwrap_or_default();
        self.session_id.is_empty() || session_id(session) == self.session_id
    }

    fn kind(&self, request: &Request) -> Option<On> {
        Some(match request.method.as_str() {
            "OPTIONS" | "GET_PARAMETER" | "SET_PARAMETER" if self.is_playing => On::Keepalive,
            "OPTIONS" => On::Options,
            "DESCRIBE" => On::Describe,
            "SETUP" => On::Setup,
            "PLAY" => On::Play,
            _ => return None,
        })
    }

    /// What the client will believe after this answer is so.
    fn note(&mut self, request: &Request, answer: &Answer) {
        self.previous_cseq = request.header("CSeq").unwrap_or("0").to_owned();
        if !answer.is_granted() {
            return;
        }
        match (request.method.as_str(), &answer.effect) {
            ("DESCRIBE", _) => self.is_described = true,
            ("SETUP", Effect::SetUp { camera }) => {
                let asked = interleaved_channel(request.header("Transport").unwrap_or_default());
                let agreed = answer.header("Transport").and_then(agreed_channel);
                self.setup = Some(Setup { camera: *camera, channel: agreed.or(asked).unwrap_or(0) });
                self.session_id = answer.header("Session").map(session_id).unwrap_or_default().to_owned();
            }
            ("PLAY", _) => {
                self.is_playing = true;
                if let Some(session) = answer.header("Session") {
                    self.session_id = session_id(session).to_owned();
                }
            }
            _ => {}
        }
    }
}

/// What a camera without a password asks for when it lets nobody in.
fn nobody() -> Access {
    Access { user: String::new(), password: String::new(), scheme: Scheme::DigestMd5, nonce_lifetime_s: None }
}

fn refuse(request: &Request, farm: &Farm, challenge: Challenge) -> Answer {
    let camera = request.header("Authorization").and_then(|_| farm.find(camera_and_track(&request.url).0));
    let effect = camera.map(|camera| Effect::RefuseLogin { camera, stale: challenge.stale });
    let answer = Answer::new(request, 401).with("WWW-Authenticate", challenge.header);
    answer.effect(effect.unwrap_or(Effect::None))
}

fn describe(request: &Request, farm: &Farm) -> Answer {
    let (name, _) = camera_and_track(&request.url);
    let Some(camera) = farm.find(name).and_then(|index| farm.cameras.get(index)) else {
        return Answer::new(request, 404);
    };
    let answer = Answer::new(request, 200).with("Content-Base", base_url(&request.url));
    Answer {
        body: sdp::describe(&camera.media).into_bytes(),
        ..answer.with("Content-Type", "application/sdp")
    }
}

/// First RTP channel of the first TCP transport that the client offers; 0 when it names none.
fn interleaved_channel(transport: &str) -> Option<u8> {
    let offer = transport.split(',').map(str::trim).find(|offer| offer.starts_with("RTP/AVP/TCP"))?;
    Some(agreed_channel(offer).unwrap_or(0))
}

/// RTP channel of a transport, however it is written.
fn agreed_channel(transport: &str) -> Option<u8> {
    let value = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        (name.trim() == "interleaved")
            .then(|| value.split('-').next().unwrap_or_default().trim().parse().ok())?
    };
    transport.split(';').find_map(value)
}

/// Without the parameters behind it.
fn session_id(session: &str) -> &str {
    session.split(';').next().unwrap_or_default().trim()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    struct Client {
        connection: RtspConnection,
        farm: Farm,
        plan: Plan,
        sessions: Sessions,
        rng: Rng,
    }

    impl Client {
        fn new(faults: &[&str]) -> Self {
            let mut rng = Rng::new(7);
            let farm = Farm::new(Config::new(([127, 0, 0, 1], 0).into())).unwrap();
            let mut plan = Plan::new(farm.cameras.len());
            faults.iter().for_each(|fault| plan.add(fault.parse().unwrap(), vec![0, 1], 0));
            plan.advance(0);
            let connection = RtspConnection::new(1, None, &mut rng, 0);
            Self { connection, farm, plan, sessions: Sessions::default(), rng }
        }

        fn send(&mut self, line: &str, headers: &str) -> (String, Effect) {
            let mut input = format!("{line} RTSP/1.0\r\nCSeq: 9\r\n{headers}\r\n").into_bytes();
            let request = crate::request::next(&mut input, &mut 0).unwrap().unwrap();
            let Self { connection, farm, plan, sessions, rng } = self;
            connection.note_camera(&request, farm);
            let answer = connection.answer(&request, &mut Scene { farm, plan, sessions, rng, now_ns: 0 });
            (String::from_utf8_lossy(&answer.to_bytes()).into_owned(), answer.effect)
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
        assert!(describe("status=453").0.starts_with("RTSP/1.0 453 "));
        assert!(describe("status=401").0.contains("WWW-Authenticate"));
        assert!(describe("huge-header").0.len() > 100_000);
        assert!(matches!(describe("huge-body").1, Effect::Flood(_)));
        assert!(
            describe("endless-header").0.ends_with("X-Endless: \r\n"),
            "{}",
            describe("endless-header").0
        );
        assert!(!describe("no-video").0.contains("m=video"));
        assert!(describe("codec=VP8").0.contains("VP8/90000"));
        assert!(describe("no-sprop").0.contains("a=fmtp:96 packetization-mode=1;profile-level-id="));
        assert!(describe("sprop-bad").0.contains("sprop-parameter-sets=%%,=A="));
        assert!(describe("sdp-odd").0.contains("TP-LINK") && describe("sdp-odd").0.contains("m=video"));
    }

    #[test]
    fn what_was_answered_holds() {
        let tcp = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
        let mut client = Client::new(&["transport-order", "session-other", "channels"]);
        let (text, _) = client.send("SETUP rtsp://h/h264/trackID=0", tcp);
        assert!(text.contains("interleaved=10-11"), "the fault that was named last: {text}");
        assert_eq!(client.connection.setup.map(|setup| setup.channel), Some(10));
        let session = client.session();
        let (text, effect) = client.send("PLAY rtsp://h/h264/", &session);
        assert!(matches!(effect, Effect::Play(_)) && client.session() != session, "{text}");
        assert!(client.send("TEARDOWN rtsp://h/h264/", &session).0.starts_with("RTSP/1.0 454"));

        let mut client = Client::new(&["no-session", "setup-status=503@1h"]);
        assert!(!client.send("SETUP rtsp://h/h264/trackID=0", tcp).0.contains("Session"));
        assert!(matches!(client.send("PLAY rtsp://h/h264/", "").1, Effect::Play(_)));
    }

    #[test]
    fn a_full_camera_takes_one_session() {
        let mut client = Client::new(&["session-limit"]);
        client.sessions.begin(0, 2, "other");
        let mut status = |name: &str| {
            let line = format!("SETUP rtsp://h/{name}/trackID=0");
            client.send(&line, "Transport: RTP/AVP/TCP\r\n").0[9..12].to_owned()
        };
        assert_eq!((status("h264").as_str(), status("h265").as_str()), ("453", "200"));
    }

    #[test]
    fn no_password_is_good_enough() {
        let mut client = Client::new(&["wrong-password"]);
        let (text, _) = client.send("DESCRIBE rtsp://h/h264", "");
        assert!(text.starts_with("RTSP/1.0 401") && text.contains("Digest "), "{text}");
        let (_, effect) = client.send("DESCRIBE rtsp://h/h264", "Authorization: Digest username=\"\"\r\n");
        assert!(matches!(effect, Effect::RefuseLogin { camera: 0, stale: false }), "{effect:?}");
    }

    #[test]
    fn login_faults() {
        let mut client = Client::new(&["two-challenges", "rfc-2069"]);
        let scheme = Scheme::DigestMd5;
        let access =
            Access { user: "u".to_owned(), password: "p".to_owned(), scheme, nonce_lifetime_s: None };
        client.farm.config.access = Some(access);
        let (text, _) = client.send("DESCRIBE rtsp://h/h264", "");
        assert_eq!(text.matches("WWW-Authenticate").count(), 2, "{text}");
        assert!(text.contains("Digest ") && !text.contains("qop") && !text.contains("MD5"), "{text}");
    }

    #[test]
    fn transports_of_all_kinds() {
        assert_eq!(interleaved_channel("RTP/AVP;unicast,RTP/AVP/TCP;interleaved=8-9"), Some(8));
        assert_eq!(interleaved_channel("RTP/AVP/TCP"), Some(0));
        assert_eq!(interleaved_channel("RTP/AVP;unicast"), None);
        assert_eq!(agreed_channel("interleaved = 4 - 5 ; unicast"), Some(4));
        assert_eq!(agreed_channel("RTP/AVP;unicast"), None);
    }
}
