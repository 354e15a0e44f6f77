//! Anything that a camera may answer, at any time, against `rtsp::Session`, by way of the framer.
//!
//! The input is 3 bytes of choices, then what the camera sends. In it 0xFF stands for time that passes until something is due,
//! 0xFE for a second, 0xFD for the wish to leave.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vms_fuzz::cuts::Cuts;
use vms_fuzz::dialogue::{self, Asked, Sent};
use vms_fuzz::{knows_the_password, memory};
use vms_pure::limits::OUTBOX_LEN_MAX;
use vms_pure::rtsp::{CameraUrl, Event, Framer, Session, SessionConfig, SessionEvent};
use vms_pure::time::Mono;

const URLS: [&str; 3] = [
    "rtsp://10.1.1.1:8554/live?a=1",
    "rtsp://operator:CANARY@10.1.1.1:8554/live",
    "rtsp://operator:CANARY@10.1.1.1:8554/user=operator_password=CANARY",
];
const ORIGIN: &str = "rtsp://10.1.1.1:8554";
/// A head, a body, their text, and what a session keeps of them.
const HELD_MAX: usize = 1024 * 1024;

fuzz_target!(init: memory::limit(), |data: &[u8]| {
    let Some((&[url, seed0, seed1], text)) = data.split_first_chunk() else { return };
    if knows_the_password(data) {
        return;
    }
    let mut camera = Camera::new(URLS[usize::from(url) % URLS.len()]);
    let mut cuts = Cuts::new(u16::from_be_bytes([seed0, seed1]));
    for block in text.split_inclusive(|byte| *byte >= 0xfd) {
        let (sign, said) = match block.split_last() {
            Some((&sign, said)) if sign >= 0xfd => (sign, said),
            _ => (0, block),
        };
        cuts.pieces(said).for_each(|piece| camera.say(piece));
        match sign {
            0xff => {
                camera.pass(camera.session.poll_timeout().map_or(Duration::ZERO, |due| due.since(camera.now)))
            }
            0xfe => camera.pass(Duration::from_secs(1)),
            0xfd => camera.leave(),
            _ => {}
        }
    }
    camera.leave();
    camera.pass(Duration::from_secs(1));
    assert!(camera.is_closed && camera.session.poll_timeout().is_none(), "a session ends when it is to");
});

struct Camera {
    framer: Framer,
    session: Session,
    now: Mono,
    has_login: bool,
    /// The camera has asked for the login.
    has_challenged: bool,
    asked: Option<Asked>,
    is_described: bool,
    is_playing: bool,
    /// Failed or redirected.
    is_over: bool,
    is_leaving: bool,
    is_closed: bool,
    /// What it sent is no RTSP.
    is_broken: bool,
    base: usize,
}

impl Camera {
    fn new(url: &str) -> Self {
        let (camera, credentials) = CameraUrl::parse(url).unwrap();
        let base = memory::held();
        let mut session = Session::new(&camera, credentials.as_ref(), SessionConfig::default(), 7);
        let now = Mono(1 << 40);
        session.start(now);
        let mut camera = Self {
            framer: Framer::new(),
            session,
            now,
            has_login: credentials.is_some(),
            has_challenged: false,
            asked: None,
            is_described: false,
            is_playing: false,
            is_over: false,
            is_leaving: false,
            is_closed: false,
            is_broken: false,
            base,
        };
        camera.settle();
        camera
    }

    fn say(&mut self, mut bytes: &[u8]) {
        while !self.is_broken {
            match self.framer.next(&mut bytes) {
                Ok(Some(Event::Response(response))) => {
                    self.has_challenged |= response.status == 401;
                    self.session.on_response(&response, self.now);
                }
                Ok(Some(Event::Request(request))) => self.session.on_request(&request),
                Ok(Some(_)) => continue,
                Ok(None) => break,
                Err(_) => self.is_broken = true,
            }
            self.settle();
        }
    }

    fn pass(&mut self, time: Duration) {
        let before = self.session.poll_timeout();
        if before.is_some_and(|due| self.now < due) {
            self.session.handle_timeout(self.now);
            assert_eq!(self.session.poll_timeout(), before, "nothing was due");
        }
        self.now = self.now + time;
        for _ in 0..8 {
            if self.session.poll_timeout().is_none_or(|due| self.now < due) {
                return;
            }
            self.session.handle_timeout(self.now);
            self.settle();
        }
        panic!("something is due again and again");
    }

    fn leave(&mut self) {
        self.is_leaving = true;
        self.session.teardown(self.now);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(event) = self.session.poll_event() {
            self.told(&event);
        }
        if let Some(bytes) = self.session.poll_transmit() {
            assert!(!bytes.is_empty() && bytes.len() <= OUTBOX_LEN_MAX);
            dialogue::read(&bytes).into_iter().for_each(|sent| self.sent(sent));
        }
        assert_eq!(self.session.poll_transmit(), None, "all was sent");
        let is_opening = !self.is_playing && !self.is_over && !self.is_closed;
        assert!(!is_opening || self.session.poll_timeout().is_some(), "nothing is waited for");
        assert!(!format!("{:?}", self.session).contains("CANARY"));
        assert!(memory::held() - self.base <= HELD_MAX);
    }

    fn told(&mut self, event: &SessionEvent) {
        assert!(!self.is_closed, "{event:?} after the end");
        assert!(!self.is_over || *event == SessionEvent::Closed, "{event:?} after a failure");
        match event {
            SessionEvent::Described { media } => {
                assert!(!std::mem::replace(&mut self.is_described, true));
                assert!(media.codec.is_some());
            }
            SessionEvent::Playing { channels, .. } => {
                assert!(self.is_described && !std::mem::replace(&mut self.is_playing, true));
                assert!(self.session.is_set_up());
                assert_ne!(Some(channels.rtp), channels.rtcp, "two streams on one channel");
            }
            SessionEvent::Redirect { url, keep_credentials } => {
                self.is_over = true;
                assert!(!self.is_playing);
                assert_eq!(*keep_credentials, url.host() == "10.1.1.1", "{url}");
            }
            SessionEvent::Failed(error) => {
                self.is_over = true;
                assert!(!error.to_string().contains("CANARY"));
            }
            SessionEvent::Closed => {
                self.is_closed = true;
                assert!(self.is_leaving, "nobody wanted to leave");
            }
        }
    }

    fn sent(&mut self, sent: Sent) {
        let Sent::Asked(asked) = sent else {
            assert!(matches!(sent, Sent::Answered(200 | 501)), "{sent:?}");
            return;
        };
        let expected = self.asked.as_ref().map_or(1, |before| before.cseq.wrapping_add(1));
        assert_eq!(asked.cseq, expected, "requests are numbered through");
        let path = asked.uri.strip_prefix(ORIGIN).expect("requests go to the connection's host");
        assert!(path.starts_with(['/', '?']), "{path}");
        if let Some(authorization) = &asked.authorization {
            assert!(self.has_login && self.has_challenged, "nobody asked for {authorization}");
        }
        let in_order = match asked.method.as_str() {
            "OPTIONS" => self.asked.is_none() || self.is_playing,
            "DESCRIBE" => !self.is_described,
            "SETUP" | "PLAY" => self.is_described && !self.is_playing,
            "GET_PARAMETER" => self.is_playing,
            "TEARDOWN" => self.is_leaving && self.session.is_set_up(),
            _ => false,
        };
        assert!(in_order && !self.is_closed, "{asked:?} is not what comes next");
        self.asked = Some(asked);
    }
}
