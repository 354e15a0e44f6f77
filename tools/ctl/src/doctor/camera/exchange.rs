//! Listens to what is said between us and a camera: pure. It takes no part in it.

use std::time::Duration;

use vms_media::rtsp::{Event, Framer, MediaKind, Response, sdp};
use vms_media::time::Mono;

/// Answers that are kept; what follows PLAY are keepalives.
const STEPS_MAX: usize = 16;
/// Characters that are kept of what a camera calls itself or its media.
const WORDS_MAX: usize = 120;

/// One connection, heard from both sides.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    ours: Framer,
    theirs: Framer,
    /// The request that waits for its answer.
    asked: Option<Asked>,
    /// What was asked and answered.
    pub(super) steps: Vec<Step>,
    /// What the camera calls itself.
    pub(super) server: Option<String>,
    /// Ways to log in that it offered.
    pub(super) schemes: Vec<String>,
    /// Requests that carried a login, and were answered.
    pub(super) logins: Logins,
    /// Media that it described.
    pub(super) media: Vec<String>,
    /// Bytes of the largest interleaved frame.
    pub(super) largest_frame: usize,
}

#[derive(Debug)]
struct Asked {
    method: String,
    at: Mono,
    has_login: bool,
}

/// A request with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) method: String,
    pub(super) status: u16,
    pub(super) took: Duration,
}

/// What became of requests with a login.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Logins {
    pub(super) accepted: u32,
    pub(super) refused: u32,
}

impl Exchange {
    /// A new connection; what was heard on those before is kept.
    pub(super) fn begin(&mut self) {
        (self.ours, self.theirs, self.asked) = (Framer::new(), Framer::new(), None);
    }

    /// We say `bytes`.
    pub(super) fn sent(&mut self, now: Mono, mut bytes: &[u8]) {
        while let Ok(Some(event)) = self.ours.next(&mut bytes) {
            if let Event::Request(request) = event {
                let has_login = request.headers.first("Authorization").is_some();
                self.asked = Some(Asked { method: request.method, at: now, has_login });
            }
        }
    }

    /// The camera says `bytes`.
    pub(super) fn received(&mut self, now: Mono, mut bytes: &[u8]) {
        loop {
            match self.theirs.next(&mut bytes) {
                Ok(Some(Event::Response(response))) => self.on_response(now, &response),
                Ok(Some(Event::Frame { payload, .. })) => {
                    self.largest_frame = self.largest_frame.max(payload.len())
                }
                Ok(Some(Event::Found { payload, .. })) => {
                    self.largest_frame = self.largest_frame.max(payload.len())
                }
                Ok(Some(Event::DataStart { len, .. })) => {
                    self.largest_frame = self.largest_frame.max(len.into())
                }
                Ok(Some(Event::Request(_) | Event::Data(_) | Event::DataEnd | Event::Skipped { .. })) => {}
                // What it means that it cannot be read on is said by who takes part.
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn on_response(&mut self, now: Mono, response: &Response) {
        if (100..200).contains(&response.status) {
            return;
        }
        let header = |name| response.headers.first(name).filter(|value| !value.is_empty());
        if self.server.is_none() {
            self.server = header("Server").map(cut);
        }
        if response.status == 401 {
            response.headers.all("WWW-Authenticate").for_each(|line| self.offer(line));
        }
        let Some(Asked { method, at, has_login }) = self.asked.take() else { return };
        if has_login && response.status == 401 {
            self.logins.refused += 1;
        } else if has_login && response.is_success() {
            self.logins.accepted += 1;
        }
        if method == "DESCRIBE" && response.is_success() {
            self.media =
                sdp::parse(&response.body).map_or_else(|_| Vec::new(), |described| media(&described));
        }
        if self.steps.len() < STEPS_MAX {
            self.steps.push(Step { method, status: response.status, took: now.since(at) });
        }
    }

    /// Notes a line of `WWW-Authenticate`, but for what only concerns those who log in.
    fn offer(&mut self, line: &str) {
        let scheme = line.split_whitespace().next().unwrap_or_default();
        let lower = line.to_ascii_lowercase();
        let algorithm = lower.split_once("algorithm=").map(|(_, rest)| {
            rest.trim_start_matches('"')
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect::<String>()
        });
        let words = match algorithm {
            Some(algorithm) => format!("{scheme} ({})", algorithm.to_ascii_uppercase()),
            None => scheme.to_owned(),
        };
        let words = cut(&words);
        if !self.schemes.contains(&words) && self.schemes.len() < STEPS_MAX {
            self.schemes.push(words);
        }
    }
}

fn media(described: &sdp::SessionDescription) -> Vec<String> {
    let words = described.media.iter().map(|media| {
        let kind = match media.kind {
            MediaKind::Video => "video",
            MediaKind::Audio => "audio",
            MediaKind::Other => "data",
        };
        cut(&format!("{kind} {}", media.encoding))
    });
    words.collect()
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn requests_and_answers_are_matched_and_nothing_secret_is_kept() {
        let mut exchange = Exchange::default();
        exchange.begin();
        exchange.sent(at(0), b"OPTIONS rtsp://h/ RTSP/1.0\r\nCSeq: 1\r\n\r\n");
        exchange.received(at(3), b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nServer: Hipcam\r\n\r\n");
        exchange.sent(at(4), b"DESCRIBE rtsp://h/ RTSP/1.0\r\nCSeq: 2\r\n\r\n");
        exchange.received(
            at(5),
            b"RTSP/1.0 401 No\r\nCSeq: 2\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\", algorithm=\"SHA-256\"\r\n\
              WWW-Authenticate: Basic realm=\"r\"\r\n\r\n",
        );
        let login = b"DESCRIBE rtsp://h/ RTSP/1.0\r\nCSeq: 3\r\nAuthorization: Basic Y2FuYXJ5\r\n\r\n";
        exchange.sent(at(6), &login[..10]);
        exchange.sent(at(6), &login[10..]);
        let sdp = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\nm=audio 0 RTP/AVP 8\r\n";
        let described = format!("RTSP/1.0 200 OK\r\nCSeq: 3\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len());
        for byte in described.bytes() {
            exchange.received(at(9), &[byte]);
        }
        exchange.received(at(9), b"$\x00\x00\x0e\x80\x60\x00\x01abcdefghij$\x00\x00\x14\x80\x60\x00\x02ab");

        let steps: Vec<_> = exchange
            .steps
            .iter()
            .map(|step| (step.method.as_str(), step.status, step.took.as_millis()))
            .collect();
        assert_eq!(steps, [("OPTIONS", 200, 3), ("DESCRIBE", 401, 1), ("DESCRIBE", 200, 3)]);
        assert_eq!(exchange.server.as_deref(), Some("Hipcam"));
        assert_eq!(exchange.schemes, ["Digest (SHA-256)", "Basic"]);
        assert_eq!(exchange.logins, Logins { accepted: 1, refused: 0 });
        assert_eq!(exchange.media, ["video H264", "audio payload type 8"]);
        assert_eq!(exchange.largest_frame, 20);
        assert!(!format!("{exchange:?}").contains("Y2FuYXJ5"));
    }

    #[test]
    fn what_is_no_rtsp_is_heard_without_harm() {
        let mut exchange = Exchange::default();
        exchange.received(at(1), b"RTSP/1.0 200 OK\r\n\r\n");
        exchange.received(at(1), b"SSH-2.0-OpenSSH_9.2\r\n");
        exchange.received(at(1), &[0xff; 4096]);
        assert!(exchange.steps.is_empty(), "an answer to nothing");
    }
}
