//! Conversations with cameras, each turn as text.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::rtsp::framer::{Event, Framer};
use crate::rtsp::message::Response;
use crate::rtsp::sdp::SdpError;
use crate::rtsp::url::UrlError;

const SDP: &str = "v=0\r\na=control:*\r\nm=audio 0 RTP/AVP 0\r\na=control:t0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t1\r\n";
const DIGEST: &str = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"n1\", qop=\"auth\"\r\n";

#[test]
fn from_options_to_closed() {
    let mut camera = Talk::start("rtsp://u:p@cam:8554/live?x=1");
    let options = camera.sent();
    assert!(
        options.starts_with("OPTIONS rtsp://cam:8554/live?x=1 RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: vms-media/")
    );
    camera.reply(200, "Public: OPTIONS, DESCRIBE, GET_PARAMETER\r\n");
    assert!(camera.sent().contains("Accept: application/sdp\r\n"));
    camera.reply_sdp("Content-Base: rtsp://10.0.0.9/live?x=1/\r\n", SDP);
    let setup = camera.sent();
    assert!(setup.starts_with("SETUP rtsp://cam:8554/live?x=1/t1 RTSP/1.0\r\n"), "{setup}");
    assert!(setup.contains("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"));
    assert!(matches!(camera.event(), Some(SessionEvent::Described { media }) if media.payload_type == 96));
    camera.reply(
        200,
        "Transport: RTP/AVP/TCP;unicast;interleaved=0-1;ssrc=000000A1\r\nSession: 77;timeout=20\r\n",
    );
    let play = camera.sent();
    assert!(play.starts_with("PLAY rtsp://cam:8554/live?x=1/ RTSP/1.0\r\n"), "{play}");
    assert!(play.contains("Session: 77\r\n"));
    camera.reply(200, "RTP-Info: url=x;seq=7;rtptime=9\r\n");
    let rtp_info = RtpInfo { ssrc: Some(0xa1), sequence: Some(7), rtp_time: Some(9) };
    assert_eq!(camera.event(), Some(SessionEvent::Playing { channels: ASKED_CHANNELS, rtp_info }));

    assert_eq!(camera.session.poll_timeout(), Some(camera.now + Duration::from_secs(10)));
    camera.pass(10);
    assert!(
        camera.sent().starts_with("GET_PARAMETER rtsp://cam:8554/live?x=1/ "),
        "row 21: the aggregate URI"
    );
    camera.reply(200, "");
    camera.session.teardown(camera.now);
    assert!(camera.sent().starts_with("TEARDOWN rtsp://cam:8554/live?x=1/ "));
    camera.reply(500, "");
    assert_eq!(camera.event(), Some(SessionEvent::Closed));
    assert_eq!(camera.session.poll_timeout(), None);
}

#[test]
fn row6_the_cameras_requests_are_answered() {
    let mut camera = Talk::playing("");
    for (method, status) in [
        ("OPTIONS", 200),
        ("GET_PARAMETER", 200),
        ("SET_PARAMETER", 200),
        ("ANNOUNCE", 200),
        ("REDIRECT", 501),
    ] {
        camera.feed(&format!("{method} rtsp://cam/x RTSP/1.0\r\nCSeq: 99\r\n\r\n"));
        let reply = camera.sent();
        assert!(
            reply.starts_with(&format!("RTSP/1.0 {status} ")) && reply.contains("CSeq: 99\r\n"),
            "{reply}"
        );
    }
}

#[test]
fn a_flood_of_requests_that_reads_nothing_ends_the_session() {
    let mut camera = Talk::playing("");
    (0..1000).for_each(|_| camera.feed("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"));
    assert!(matches!(camera.event(), Some(SessionEvent::Failed(SessionError::ProtocolError { .. }))));
    assert!(camera.session.poll_transmit().unwrap().len() <= OUTBOX_LEN_MAX);
}

#[test]
fn row10_and_27_the_channels_of_the_answer_or_as_asked() {
    for (transport, rtp) in [("Transport: RTP/AVP/TCP;interleaved=8-9\r\n", 8), ("", 0)] {
        let mut camera = Talk::described();
        camera.reply(200, transport);
        camera.reply(200, "");
        assert!(matches!(camera.event(),
            Some(SessionEvent::Playing { channels, .. }) if channels == Channels { rtp, rtcp: Some(rtp + 1) }));
    }
}

#[test]
fn row19_and_20_keepalives_may_be_answered_wrongly_or_not_at_all() {
    let mut camera = Talk::playing("Public: GET_PARAMETER\r\n");
    camera.pass(30);
    assert!(camera.sent().starts_with("GET_PARAMETER "));
    camera.feed("RTSP/1.0 400 Bad Request\r\nCSeq: 3\r\n\r\n");
    camera.pass(30);
    assert!(camera.sent().starts_with("OPTIONS "), "the other method after a refusal");
    for _ in 0..20 {
        camera.pass(5);
        camera.pass(25);
        assert!(!camera.sent().is_empty(), "keepalives go on without an answer");
    }
    assert_eq!(camera.event(), None);
}

#[test]
fn row23_get_parameter_only_where_it_is_advertised() {
    let mut camera = Talk::playing("Public: OPTIONS, SET_PARAMETER\r\n");
    for _ in 0..3 {
        camera.pass(30);
        assert!(camera.sent().starts_with("OPTIONS rtsp://cam/x"));
        camera.reply(501, "");
    }
}

#[test]
fn row24_the_keepalive_interval_is_half_the_timeout_within_bounds() {
    for (session, seconds) in [
        ("1;timeout=10 ", 5),
        ("1;timeout=0", 30),
        ("1", 30),
        ("1;x=y;timeout=8", 4),
        ("1;timeout=1", 1),
        ("1;timeout=86400", 30),
    ] {
        let mut camera = Talk::described();
        camera.reply(200, &format!("Session: {session}\r\n"));
        camera.reply(200, "");
        assert_eq!(
            camera.session.poll_timeout(),
            Some(camera.now + Duration::from_secs(seconds)),
            "{session}"
        );
    }
}

#[test]
fn row25_and_26_session_ids_that_change_or_never_come() {
    let mut camera = Talk::described();
    camera.reply(200, "Session: first\r\n");
    camera.reply(200, "Session: second\r\n");
    camera.sent();
    camera.pass(30);
    assert!(camera.sent().contains("Session: second\r\n"));
    let mut camera = Talk::playing("");
    camera.pass(30);
    assert!(!camera.sent().contains("Session:"));
}

#[test]
fn row30_udp_or_461_is_a_refusal_of_tcp() {
    for (status, header) in
        [(461, ""), (200, "Transport: RTP/AVP;unicast;client_port=0-1;server_port=2-3\r\n")]
    {
        let mut camera = Talk::described();
        camera.reply(status, header);
        assert_eq!(camera.event(), Some(SessionEvent::Failed(SessionError::TransportRefused)));
    }
}

#[test]
fn row31_answers_with_a_wrong_cseq_or_none_count_in_order() {
    for cseq in ["CSeq: 700\r\n", "", "CSeq: 0\r\n", "CSeq: x\r\n"] {
        let mut camera = Talk::start("rtsp://cam/x");
        camera.feed(&format!("RTSP/1.0 200 OK\r\n{cseq}\r\n"));
        assert!(camera.sent().contains("DESCRIBE "), "{cseq}");
    }
}

#[test]
fn row33_38_options_may_fail_or_go_unanswered() {
    for status in [404, 501, 551, 503, 0] {
        let mut camera = Talk::start("rtsp://cam/x");
        camera.reply(status, "");
        let describe = camera.sent();
        assert!(describe.contains("DESCRIBE ") && describe.contains("User-Agent: "), "{status}");
    }
    let mut camera = Talk::start("rtsp://cam/x");
    camera.sent();
    camera.pass(5);
    assert!(camera.sent().starts_with("DESCRIBE "));
    camera.feed("RTSP/1.0 404 late\r\nCSeq: 1\r\n\r\n");
    assert_eq!(camera.event(), None, "the late answer is not DESCRIBE's");
}

#[test]
fn row34_redirects_keep_the_credentials_on_the_same_host_only() {
    let redirect = |location: &str| {
        let mut camera = Talk::asked_to_describe("rtsp://u:p@cam/x");
        camera.reply(302, &format!("Location: {location}\r\n"));
        camera.event()
    };
    let to = |text: &str, keep_credentials| {
        Some(SessionEvent::Redirect { url: CameraUrl::parse(text).unwrap().0, keep_credentials })
    };
    assert_eq!(redirect("rtsp://CAM:8554/y"), to("rtsp://CAM:8554/y", true));
    assert_eq!(redirect("rtsp://other/y"), to("rtsp://other/y", false));
    assert_eq!(redirect("rtsp://evil:evil@other/y"), to("rtsp://other/y", false));
    assert_eq!(redirect("/y"), to("rtsp://cam/y", true));
    let refused =
        SessionError::RedirectRefused { why: UrlError::UnsupportedScheme { scheme: "http".to_owned() } };
    assert_eq!(redirect("http://cam/y"), Some(SessionEvent::Failed(refused)));
}

#[test]
fn row41_two_refusals_end_it() {
    let mut camera = Talk::asked_to_describe("rtsp://u:wrong@cam/x");
    camera.reply(401, DIGEST);
    assert!(camera.sent().contains("Authorization: Digest "));
    camera.reply(401, DIGEST);
    assert!(camera.sent().contains("nc=00000001"));
    camera.reply(401, DIGEST);
    let refused = SessionError::AuthRefused { credentials_set: true, realm: Some("cam".into()) };
    assert_eq!(camera.event(), Some(SessionEvent::Failed(refused)));
    assert_eq!(camera.session.poll_transmit(), None);
}

#[test]
fn a_password_that_is_wanted_and_not_set() {
    let mut camera = Talk::asked_to_describe("rtsp://cam/x");
    camera.reply(401, DIGEST);
    let refused = SessionError::AuthRefused { credentials_set: false, realm: Some("cam".into()) };
    assert_eq!(camera.event(), Some(SessionEvent::Failed(refused)));
}

#[test]
fn row40_a_new_nonce_while_playing_is_answered_at_once() {
    let mut camera = Talk::start("rtsp://u:p@cam/x");
    camera.reply(401, DIGEST);
    assert!(
        camera.sent().contains("DESCRIBE rtsp://cam/x RTSP/1.0\r\nCSeq: 2\r\n"),
        "the challenge of OPTIONS is used"
    );
    camera.reply_sdp("", SDP);
    camera.reply(200, "Session: 1\r\n");
    camera.reply(200, "");
    camera.sent();
    for nonce in 0..5 {
        camera.pass(30);
        camera.sent();
        camera.reply(401, &DIGEST.replace("n1", &format!("renewed{nonce}")));
        assert!(camera.sent().contains(&format!("nonce=\"renewed{nonce}\"")));
        camera.reply(200, "");
    }
    assert!(!camera.all_events().iter().any(|event| matches!(event, SessionEvent::Failed(_))));
}

#[test]
fn a_login_refused_while_playing_stops_keepalives_and_not_the_session() {
    let mut camera = Talk::playing("");
    camera.pass(30);
    camera.reply(401, DIGEST);
    assert_eq!(camera.event(), None);
    camera.sent();
    camera.pass(300);
    assert_eq!(camera.sent(), "");
    camera.session.teardown(camera.now);
    assert!(camera.sent().starts_with("TEARDOWN "));
}

#[test]
fn statuses_are_told_apart() {
    let refused = |status| SessionError::RequestRefused { method: Method::Describe, status };
    for (status, error) in [
        (403, SessionError::Forbidden),
        (404, SessionError::NotFound),
        (453, SessionError::SessionLimit),
        (503, SessionError::ServiceUnavailable),
        (500, refused(500)),
        (304, refused(304)),
        (999, refused(999)),
    ] {
        let mut camera = Talk::asked_to_describe("rtsp://cam/x");
        camera.reply(status, "");
        assert_eq!(camera.event(), Some(SessionEvent::Failed(error)), "{status}");
    }
}

#[test]
fn row48_the_description_is_read_whatever_its_content_type() {
    for header in ["", "Content-Type: application/SDP;charset=utf-8\r\n", "Content-Type: text/plain\r\n"] {
        let mut camera = Talk::asked_to_describe("rtsp://cam/x");
        camera.reply_sdp(header, SDP);
        assert!(matches!(camera.event(), Some(SessionEvent::Described { .. })));
    }
}

#[test]
fn descriptions_without_anything_for_us() {
    for (body, error) in [
        ("", SessionError::BadSdp { why: SdpError::Empty }),
        ("<html>", SessionError::BadSdp { why: SdpError::NotSdp }),
        ("v=0\r\nm=audio 0 RTP/AVP 0\r\n", SessionError::NoVideo),
        ("v=0\r\nm=video 0 RTP/AVP 26\r\n", SessionError::UnsupportedCodec { name: "JPEG".into() }),
    ] {
        let mut camera = Talk::asked_to_describe("rtsp://cam/x");
        camera.reply_sdp("", body);
        assert_eq!(camera.event(), Some(SessionEvent::Failed(error)));
    }
}

#[test]
fn every_request_before_play_has_a_deadline() {
    let mut camera = Talk::asked_to_describe("rtsp://cam/x");
    camera.pass(4);
    camera.feed("RTSP/1.0 100 Continue\r\n\r\n");
    assert_eq!(camera.event(), None);
    camera.pass(1);
    let late = SessionError::ReplyTimeout { method: Method::Describe };
    assert_eq!(camera.event(), Some(SessionEvent::Failed(late)));
    assert_eq!(camera.session.poll_timeout(), None);
}

#[test]
fn row17_teardown_is_said_whenever_the_camera_holds_a_session() {
    let mut camera = Talk::described();
    camera.reply(200, "Session: 5\r\n");
    camera.reply(453, "");
    assert_eq!(camera.event(), Some(SessionEvent::Failed(SessionError::SessionLimit)));
    camera.sent();
    assert!(camera.session.is_set_up());
    camera.session.teardown(camera.now);
    assert!(camera.sent().contains("Session: 5\r\n"));
    camera.pass(1);
    assert_eq!(camera.event(), Some(SessionEvent::Closed), "no answer within a second will do");

    let mut camera = Talk::asked_to_describe("rtsp://cam/x");
    camera.sent();
    camera.session.teardown(camera.now);
    assert_eq!((camera.sent().as_str(), camera.event()), ("", Some(SessionEvent::Closed)));
}

#[test]
fn answers_to_nothing_are_dropped() {
    let mut camera = Talk::playing("");
    camera.session.on_response(&Response { status: 500, ..Response::default() }, camera.now);
    assert_eq!((camera.event(), camera.sent().as_str()), (None, ""));
}

#[test]
fn debug_prints_no_secret() {
    let mut camera = Talk::asked_to_describe("rtsp://canary:canary@cam/x?password=canary");
    camera.reply(401, "WWW-Authenticate: Basic realm=\"c\"\r\n");
    assert!(!format!("{:?}", camera.session).contains("canary"));
    assert!(camera.sent().contains("Authorization: Basic "));
}

proptest! {
    /// Whatever a camera answers: no panic, and what waits to be sent or told stays small.
    #[test]
    fn any_answers_stay_bounded(
        turns in prop::collection::vec((0u16..600, header(), 0u64..40, any::<bool>()), 0..60)
    ) {
        let mut camera = Talk::start("rtsp://u:p@cam/x");
        for (status, header, seconds, with_sdp) in turns {
            if with_sdp { camera.reply_sdp(&header, SDP) } else { camera.reply(status, &header) }
            camera.pass(seconds);
            prop_assert!(camera.session.outbox.len() <= OUTBOX_LEN_MAX);
            prop_assert!(camera.session.events.len() <= 5);
        }
    }
}

fn header() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just(DIGEST.to_owned()),
        Just("Location: rtsp://cam/y\r\n".to_owned()),
        Just(format!("Session: {}\r\n", "x".repeat(20_000))),
        "(Transport|Session|RTP-Info|Public|Content-Base|CSeq): [ -~]{0,40}\r\n",
    ]
}

#[test]
fn row17_a_session_that_was_left_is_torn_down_when_there_is_none_for_us() {
    let before = Talk::playing("Session: 0815;timeout=20\r\n");
    let leftover = before.session.leftover(before.now).unwrap();
    for refusal in [453, 503] {
        let mut camera = Talk::described();
        camera.session.set_leftover(leftover.clone());
        camera.reply(refusal, "");
        let teardown = camera.sent();
        assert!(teardown.contains("TEARDOWN ") && teardown.contains("Session: 0815\r\n"), "{teardown}");
        camera.reply(454, "");
        let setup = camera.sent();
        assert!(setup.starts_with("SETUP ") && !setup.contains("Session: "), "{setup}");
        camera.reply(453, "");
        assert_eq!(camera.event(), Some(SessionEvent::Failed(SessionError::SessionLimit)), "once is enough");
        assert_eq!(camera.session.leftover(camera.now), None);
    }

    let mut deaf = Talk::described();
    deaf.session.set_leftover(leftover.clone());
    deaf.reply(453, "");
    deaf.sent();
    deaf.pass(1);
    assert!(deaf.sent().starts_with("SETUP "), "it need not answer");

    let mut late = Talk::described();
    late.session.set_leftover(leftover.clone());
    late.now = late.now + Duration::from_secs(20);
    late.reply(453, "");
    assert_eq!(
        late.event(),
        Some(SessionEvent::Failed(SessionError::SessionLimit)),
        "it may be another's by now"
    );

    let mut fine = Talk::described();
    fine.session.set_leftover(leftover.clone());
    assert_eq!(fine.session.leftover(fine.now), Some(leftover), "it is not needed yet");
    fine.reply(200, "Session: 4711\r\n");
    fine.session.teardown(fine.now);
    let after = fine.session.leftover(fine.now).unwrap();
    assert!(!format!("{after:?} {:?}", fine.session).contains("4711"));
    fine.reply(200, "");
    assert_eq!(fine.session.leftover(fine.now).map(|leftover| leftover.id), Some("0815".to_owned()));
}

/// Both ends of a connection: a session, and what a camera says to it.
struct Talk {
    session: Session,
    framer: Framer,
    now: Mono,
}

impl Talk {
    fn start(url: &str) -> Self {
        let (url, credentials) = CameraUrl::parse(url).unwrap();
        let mut session = Session::new(&url, credentials.as_ref(), SessionConfig::default(), 42);
        let now = Mono(1_000_000_000);
        session.start(now);
        Self { session, framer: Framer::new(), now }
    }

    fn asked_to_describe(url: &str) -> Self {
        let mut talk = Self::start(url);
        talk.reply(200, "");
        talk.sent();
        talk
    }

    fn described() -> Self {
        let mut talk = Self::asked_to_describe("rtsp://cam/x");
        talk.reply_sdp("", SDP);
        talk.event();
        talk
    }

    fn playing(play_headers: &str) -> Self {
        let mut talk = Self::described();
        talk.reply(200, play_headers);
        talk.reply(200, "");
        talk.event();
        talk.sent();
        talk
    }

    /// An answer to the request under way, with its CSeq.
    fn reply(&mut self, status: u16, headers: &str) {
        let cseq = self.session.next_cseq - 1;
        self.feed(&format!("RTSP/1.0 {status} Reason\r\nCSeq: {cseq}\r\n{headers}\r\n"));
    }

    fn reply_sdp(&mut self, headers: &str, body: &str) {
        self.reply(200, &format!("{headers}Content-Length: {}\r\n", body.len()));
        self.feed(body);
    }

    fn feed(&mut self, text: &str) {
        let mut input = text.as_bytes();
        while let Some(event) = self.framer.next(&mut input).unwrap() {
            match &event {
                Event::Response(response) => self.session.on_response(response, self.now),
                Event::Request(request) => self.session.on_request(request),
                Event::Frame { .. }
                | Event::Found { .. }
                | Event::DataStart { .. }
                | Event::Data(_)
                | Event::DataEnd
                | Event::Skipped { .. } => panic!("{event:?}"),
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
        self.session.handle_timeout(self.now);
    }

    fn sent(&mut self) -> String {
        String::from_utf8(self.session.poll_transmit().unwrap_or_default()).unwrap()
    }

    fn event(&mut self) -> Option<SessionEvent> {
        self.session.poll_event()
    }

    fn all_events(&mut self) -> Vec<SessionEvent> {
        std::iter::from_fn(|| self.event()).collect()
    }
}
