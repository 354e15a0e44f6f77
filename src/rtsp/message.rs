//! RTSP messages (RFC 2326 sections 4 to 7) as cameras send them, which is with every liberty.
//!
//! The framer gathers a head and calls [`Head::parse`]. What a message means is the session's business.

use std::fmt;

/// The header lines of one message in the order they came. Names compare without regard to case.
///
/// `Debug` of headers and messages prints no values and no bodies: cameras repeat URLs in them, and some URLs
/// hold a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of the first line with this name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of all lines with this name, in order (several `WWW-Authenticate` are usual).
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push_line(&mut self, line: &str) {
        if line.starts_with([' ', '\t']) {
            // RFC 822 folding: the line continues the one before.
            if let Some((_, value)) = self.0.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            // Some cameras put a blank before the colon; a line without a colon says nothing.
            self.0.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

/// A camera's answer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// Status code; 0 from cameras that answer `RTSP/1.0 0` and mean success.
    pub status: u16,
    /// Header lines.
    pub headers: Headers,
    /// Body, at most [`RTSP_BODY_LEN_MAX`](crate::limits::RTSP_BODY_LEN_MAX) bytes.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether the request was carried out: any 2xx, and the 0 that some firmware sends in its place.
    pub fn is_success(&self) -> bool {
        self.status == 0 || (200..300).contains(&self.status)
    }

    /// The sequence number of the request that this answers, when it is there and a number.
    pub fn cseq(&self) -> Option<u32> {
        self.headers.first("CSeq")?.parse().ok()
    }
}

/// A request that the camera sends us (some ask `OPTIONS` or `GET_PARAMETER` while they play).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Method as it was spelled.
    pub method: String,
    /// Request URI as it was spelled.
    pub uri: String,
    /// Header lines.
    pub headers: Headers,
    /// Body, at most [`RTSP_BODY_LEN_MAX`](crate::limits::RTSP_BODY_LEN_MAX) bytes.
    pub body: Vec<u8>,
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .field("body_len", &self.body.len())
            .finish()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("headers", &self.headers)
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A start line with its headers; the body, if any, is still to come.
#[derive(Debug)]
pub(super) enum Head {
    Response(Response),
    Request(Request),
}

impl Head {
    /// Reads a whole head: lines end with CRLF or LF, bytes that are not UTF-8 become U+FFFD.
    /// `None` when the first line is neither a status line nor a request line.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let mut lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        let mut head = Self::parse_start_line(lines.next()?)?;
        lines.filter(|line| !line.is_empty()).for_each(|line| head.headers_mut().push_line(line));
        Some(head)
    }

    /// Reads `RTSP/1.0 200 OK` or `OPTIONS rtsp://camera/ RTSP/1.0`. Any version will do, and the reason
    /// phrase may be missing.
    pub(super) fn parse_start_line(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next()?, words.next()?);
        if first.starts_with("RTSP/") {
            return Some(Self::Response(Response { status: second.parse().ok()?, ..Response::default() }));
        }
        words.next().filter(|version| version.starts_with("RTSP/"))?;
        Some(Self::Request(Request {
            method: first.to_owned(),
            uri: second.to_owned(),
            ..Request::default()
        }))
    }

    pub(super) fn headers(&self) -> &Headers {
        match self {
            Self::Response(response) => &response.headers,
            Self::Request(request) => &request.headers,
        }
    }

    fn headers_mut(&mut self) -> &mut Headers {
        match self {
            Self::Response(response) => &mut response.headers,
            Self::Request(request) => &mut request.headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(text: &str) -> Response {
        match Head::parse(text.as_bytes()) {
            Some(Head::Response(response)) => response,
            other => panic!("not a response: {other:?}"),
        }
    }

    #[test]
    fn row14_status_lines_that_real_cameras_send() {
        for (line, status) in [
            ("RTSP/1.0 200 OK", 200),
            ("RTSP/1.0 200", 200),
            ("RTSP/1.1 404 Not Found", 404),
            ("RTSP/1.0 0", 0),
            ("RTSP/2.0  453  Not Enough Bandwidth", 453),
        ] {
            assert_eq!(response(line).status, status, "{line}");
        }
        assert!(response("RTSP/1.0 0").is_success());
        for line in ["RTSP/1.0", "RTSP/1.0 abc", "RTSP/1.0 -1", "RTSP/1.0 70000", "GET / HTTP/1.1", ""] {
            assert!(Head::parse(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn row14_lf_only_and_a_blank_before_the_colon() {
        let response = response("RTSP/1.0 200 OK\nCSeq : 7\ncontent-length:  12 \nnonsense\n\n");
        assert_eq!(response.cseq(), Some(7));
        assert_eq!(response.headers.first("Content-Length"), Some("12"));
        assert_eq!(response.headers.len(), 2);
    }

    #[test]
    fn repeated_headers_keep_their_order() {
        let response =
            response("RTSP/1.0 401 No\r\nWWW-Authenticate: A\r\nwww-authenticate: B\r\n c\r\n\r\n");
        assert_eq!(response.headers.all("WWW-AUTHENTICATE").collect::<Vec<_>>(), ["A", "B c"]);
    }

    #[test]
    fn a_request_line_needs_a_version() {
        assert!(matches!(Head::parse(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
            Some(Head::Request(r)) if r.method == "OPTIONS" && r.uri == "*"));
        assert!(Head::parse(b"OPTIONS *\r\n\r\n").is_none());
    }

    #[test]
    fn debug_prints_no_url_that_a_camera_repeats() {
        let head =
            Head::parse(b"RTSP/1.0 200 OK\r\nContent-Base: rtsp://cam/user=canary_password=canary\r\n\r\n");
        let Some(Head::Response(mut response)) = head else { panic!("no response") };
        response.body = b"a=control:rtsp://u:canary@cam/x".to_vec();
        let request = Head::parse(b"ANNOUNCE rtsp://cam/user=canary RTSP/1.0\r\nX: canary\r\n\r\n");
        let printed = format!("{response:?} {request:?}");
        assert!(printed.contains("Content-Base") && !printed.contains("canary"), "{printed}");
    }
}
