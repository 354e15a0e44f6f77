//! An answer to a request, in parts that faults can bend, until it is written (RFC 2326, 7).

use crate::flood::Flood;
use crate::player::Player;
use crate::request::Request;

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) version: &'static str,
    pub(crate) status: u16,
    /// Behind the status; nothing, not even a blank, when empty.
    pub(crate) reason: &'static str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) line_end: &'static str,
    pub(crate) colon: &'static str,
    /// Whether a blank line ends the head.
    pub(crate) has_end: bool,
    /// Nothing is said at all.
    pub(crate) is_silent: bool,
    pub(crate) effect: Effect,
}

/// The request that is answered, for faults that look at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) request: &'a Request,
    /// The fault's value.
    pub(crate) value: u64,
    /// `CSeq` of the request before, as it was written.
    pub(crate) previous_cseq: &'a str,
    /// DESCRIBE was granted on this connection.
    pub(crate) is_described: bool,
    /// URL of the presentation, with a slash at its end.
    pub(crate) base: &'a str,
}

/// What a request changes outside of the protocol.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// A session with `camera` begins.
    SetUp {
        /// Index in the farm.
        camera: usize,
    },
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
    /// Close when the reply is out: the camera does not like what was asked.
    HangUp,
    /// Credentials for `camera` were refused. A request without any, which every client begins with, is no refusal.
    RefuseLogin {
        /// Index in the farm.
        camera: usize,
        /// They were right, but made with a nonce that is too old.
        stale: bool,
    },
}

impl Answer {
    /// An answer to `request` that means no more than its status.
    pub(crate) fn new(request: &Request, status: u16) -> Self {
        let sequence = request.header("CSeq").unwrap_or("0");
        Self {
            version: "RTSP/1.0",
            status,
            reason: reason(status),
            headers: vec![
                ("CSeq".to_owned(), sequence.to_owned()),
                ("Server".to_owned(), "vms-camsim".to_owned()),
            ],
            body: Vec::new(),
            line_end: "\r\n",
            colon: ": ",
            has_end: true,
            is_silent: false,
            effect: Effect::None,
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    pub(crate) fn effect(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    /// Another status, which means that nothing is granted: no header, body or effect of this answer remains.
    pub(crate) fn refuse(&mut self, status: u16) {
        (self.status, self.reason, self.effect) = (status, reason(status), Effect::None);
        self.headers.retain(|(name, _)| name == "CSeq" || name == "Server");
        self.body.clear();
    }

    pub(crate) const fn is_granted(&self) -> bool {
        matches!(self.status, 0 | 200..=299)
    }

    /// Value of the first header called `name`, exactly.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Gives the header called `name` this value; adds it when there is none.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.headers.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value,
            None => self.headers.push((name.to_owned(), value)),
        }
    }

    /// Changes the value of the header called `name`, if there is one.
    pub(crate) fn edit(&mut self, name: &str, edit: impl FnOnce(&str) -> String) {
        if let Some((_, value)) = self.headers.iter_mut().find(|(key, _)| key == name) {
            *value = edit(value);
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.headers.retain(|(key, _)| key != name);
    }

    /// Changes a body that is text; an empty one stays empty.
    pub(crate) fn edit_body(&mut self, edit: impl FnOnce(&str) -> String) {
        if let Ok(text) = std::str::from_utf8(&self.body)
            && !text.is_empty()
        {
            self.body = edit(text).into_bytes();
        }
    }

    /// The answer as it is sent.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        if self.is_silent {
            return Vec::new();
        }
        let (colon, end) = (self.colon, self.line_end);
        let blank = if self.reason.is_empty() { "" } else { " " };
        let mut text = format!("{} {}{blank}{}{end}", self.version, self.status, self.reason);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}{colon}{value}{end}"));
        }
        if !self.body.is_empty() {
            text.push_str(&format!("Content-Length{colon}{}{end}", self.body.len()));
        }
        if self.has_end {
            text.push_str(end);
        }
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        453 => "Not Enough Bandwidth",
        454 => "Session Not Found",
        455 => "Method Not Valid in This State",
        461 => "Unsupported Transport",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        551 => "Option not supported",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        let mut input = b"DESCRIBE rtsp://h/a RTSP/1.0\r\nCSeq: 9\r\n\r\n".to_vec();
        let request = crate::request::next(&mut input, &mut 0).unwrap().unwrap();
        Answer::new(&request, 200)
    }

    #[test]
    fn as_it_is_written() {
        let mut answer = answer().with("Session", "1");
        answer.body = b"v=0".to_vec();
        let text = String::from_utf8(answer.to_bytes()).unwrap();
        assert_eq!(
            text,
            "RTSP/1.0 200 OK\r\nCSeq: 9\r\nServer: vms-camsim\r\nSession: 1\r\nContent-Length: 3\r\n\r\nv=0"
        );
    }

    #[test]
    fn bent() {
        let mut answer = answer().with("Session", "1");
        answer.edit("Session", |id| format!("{id}2"));
        assert_eq!(answer.header("Session"), Some("12"));
        (answer.line_end, answer.colon, answer.reason) = ("\n", " : ", "");
        answer.remove("Server");
        assert_eq!(answer.to_bytes(), b"RTSP/1.0 200\nCSeq : 9\nSession : 12\n\n");
        answer.refuse(404);
        assert_eq!(answer.to_bytes(), b"RTSP/1.0 404 Not Found\nCSeq : 9\n\n");
        answer.is_silent = true;
        assert!(answer.to_bytes().is_empty());
    }
}
