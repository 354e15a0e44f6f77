//! What a client sends: RTSP requests (RFC 2326), with interleaved RTCP between them that nobody here reads.

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The URL as it was written.
    pub(crate) url: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// Value of the first header called `name` (without regard to case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// As they were written.
    pub(crate) fn header_names(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().map(|(name, _)| name.as_str())
    }

    fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split_ascii_whitespace();
        let (method, url) = (words.next()?.to_owned(), words.next()?.to_owned());
        words.next()?.strip_prefix("RTSP/1.")?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect();
        Some(Self { method, url, headers })
    }
}

/// The client sent what is no request, or one larger than [`INPUT_LEN_MAX`]; the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadInput;

/// Takes the next request off the front of `input`, together with line ends and interleaved frames before it; these are
/// added to `frames`. `Ok(None)`: more bytes are needed.
pub(crate) fn next(input: &mut Vec<u8>, frames: &mut u64) -> Result<Option<Request>, BadInput> {
    loop {
        match input.as_slice() {
            [b'$', _, high, low, rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                if rest.len() < len {
                    return Ok(None);
                }
                input.drain(..FRAME_HEADER_LEN + len);
                *frames += 1;
            }
            [b'$', ..] | [] => return Ok(None),
            [b'\r' | b'\n', ..] => {
                input.remove(0);
            }
            text => {
                let Some(head_len) = text.windows(HEAD_END.len()).position(|window| window == HEAD_END)
                else {
                    return if text.len() > INPUT_LEN_MAX { Err(BadInput) } else { Ok(None) };
                };
                if text.starts_with(b"RTSP/") {
                    // An answer to a request of ours; none has a body, and nobody waits for it.
                    input.drain(..head_len + HEAD_END.len());
                    continue;
                }
                return take_request(input, head_len);
            }
        }
    }
}

fn take_request(input: &mut Vec<u8>, head_len: usize) -> Result<Option<Request>, BadInput> {
    let head = input.get(..head_len).and_then(|head| std::str::from_utf8(head).ok()).ok_or(BadInput)?;
    let request = Request::parse(head).ok_or(BadInput)?;
    let body_len: usize = match request.header("Content-Length") {
        Some(value) => value.parse().map_err(|_| BadInput)?,
        None => 0,
    };
    if body_len > INPUT_LEN_MAX {
        return Err(BadInput);
    }
    let len = head_len + HEAD_END.len() + body_len;
    if input.len() < len {
        return Ok(None);
    }
    input.drain(..len);
    Ok(Some(request))
}

/// No request is longer than this, head and body each.
pub(crate) const INPUT_LEN_MAX: usize = 16 << 10;
const HEAD_END: &[u8] = b"\r\n\r\n";
const FRAME_HEADER_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_behind_interleaved_frames() {
        let mut input =
            b"$\x01\x00\x02ab\r\nPLAY rtsp://h/a RTSP/1.0\r\ncseq: 3\r\nContent-Length: 2\r\n\r\nxy$\x01"
                .to_vec();
        let mut frames = 0;
        let request = next(&mut input, &mut frames).unwrap().unwrap();
        assert_eq!(frames, 1);
        assert_eq!((request.method.as_str(), request.url.as_str()), ("PLAY", "rtsp://h/a"));
        assert_eq!(request.header("CSeq"), Some("3"));
        assert_eq!(input, b"$\x01");
        assert_eq!(next(&mut input, &mut 0), Ok(None));
    }

    #[test]
    fn responses_are_skipped() {
        let mut input = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\nPLAY a RTSP/1.0\r\n\r\n".to_vec();
        assert!(next(&mut input, &mut 0).unwrap().is_some_and(|request| request.method == "PLAY"));
    }

    #[test]
    fn any_split_gives_the_same() {
        let whole = b"$\x01\x00\x02abOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n";
        for at in 0..whole.len() {
            let mut input = whole[..at].to_vec();
            assert_eq!(next(&mut input, &mut 0), Ok(None), "{at}");
            input.extend_from_slice(&whole[at..]);
            assert!(next(&mut input, &mut 0).unwrap().is_some_and(|request| request.method == "OPTIONS"));
        }
    }

    #[test]
    fn refusals() {
        for bad in
            ["GET / HTTP/1.1\r\n\r\n", "X\r\n\r\n", "A b RTSP/1.0\r\nContent-Length: 99999999999\r\n\r\n"]
        {
            assert_eq!(next(&mut bad.as_bytes().to_vec(), &mut 0), Err(BadInput), "{bad}");
        }
        assert_eq!(next(&mut vec![b'a'; INPUT_LEN_MAX + 1], &mut 0), Err(BadInput));
    }
}
