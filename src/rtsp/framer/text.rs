//! Gathers one message's text: head to the blank line, then as much body as the head announced.
//!
//! Memory is taken as bytes arrive, never by an announced length, and given back with the message.

use super::{Event, FramerError};
use crate::limits::{RTSP_BODY_LEN_MAX, RTSP_HEAD_LEN_MAX, RTSP_HEADERS_MAX};
use crate::rtsp::message::Head;

/// A message under way.
#[derive(Debug, Default)]
pub(super) struct TextGatherer {
    /// Head bytes so far.
    head: Vec<u8>,
    /// Where in `head` the unfinished line starts.
    line_start: usize,
    /// Finished lines, start line included.
    lines: usize,
    /// The finished head and what its body still lacks.
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    head: Head,
    bytes: Vec<u8>,
    left: usize,
}

/// What the input so far came to.
pub(super) enum Outcome<'a> {
    NeedInput,
    Complete(Event<'a>),
    /// The first line is none: `len` bytes belonged to nothing.
    NotText {
        len: usize,
    },
}

impl TextGatherer {
    /// Starts a message with its first bytes, which have no line end.
    pub(super) fn begin(&mut self, lead: &[u8]) {
        *self = Self { head: lead.to_vec(), ..Self::default() };
    }

    /// Takes from the front of `input` what belongs to the message.
    pub(super) fn gather<'a>(&mut self, input: &mut &[u8]) -> Result<Outcome<'a>, FramerError> {
        while self.body.is_none() {
            if input.is_empty() {
                return Ok(Outcome::NeedInput);
            }
            if !self.take_line(input)? {
                continue;
            }
            if let Some(outcome) = self.end_line()? {
                return Ok(outcome);
            }
        }
        Ok(self.take_body(input))
    }

    /// Moves bytes up to the next line end; true when the line is complete.
    fn take_line(&mut self, input: &mut &[u8]) -> Result<bool, FramerError> {
        let end = input.iter().position(|&b| b == b'\n').map_or(input.len(), |at| at + 1);
        let (piece, rest) = input.split_at(end.min(input.len()));
        if self.head.len() + piece.len() > RTSP_HEAD_LEN_MAX {
            return Err(FramerError::HeadTooLong { limit: RTSP_HEAD_LEN_MAX });
        }
        self.head.extend_from_slice(piece);
        *input = rest;
        Ok(piece.ends_with(b"\n"))
    }

    fn end_line<'a>(&mut self) -> Result<Option<Outcome<'a>>, FramerError> {
        self.lines += 1;
        let line = self.head.get(self.line_start..).unwrap_or_default().trim_ascii_end();
        let is_blank = line.is_empty();
        if self.lines == 1 && Head::parse_start_line(&String::from_utf8_lossy(line)).is_none() {
            let len = std::mem::take(self).head.len();
            return Ok(Some(Outcome::NotText { len }));
        }
        if !is_blank && self.lines > RTSP_HEADERS_MAX + 1 {
            return Err(FramerError::TooManyHeaders { limit: RTSP_HEADERS_MAX });
        }
        self.line_start = self.head.len();
        if is_blank {
            self.end_head()?;
        }
        Ok(None)
    }

    fn end_head(&mut self) -> Result<(), FramerError> {
        // The start line was checked when it ended.
        let Some(head) = Head::parse(&std::mem::take(&mut self.head)) else { return Ok(()) };
        let left = content_length(head.headers().first("Content-Length").unwrap_or(""))?;
        self.body = Some(Body { head, bytes: Vec::new(), left });
        Ok(())
    }

    fn take_body<'a>(&mut self, input: &mut &[u8]) -> Outcome<'a> {
        if let Some(body) = &mut self.body {
            let (piece, rest) = input.split_at(body.left.min(input.len()));
            body.bytes.extend_from_slice(piece);
            body.left -= piece.len();
            *input = rest;
        }
        match self.body.take_if(|body| body.left == 0) {
            Some(body) => {
                *self = Self::default();
                Outcome::Complete(body.into_event())
            }
            None => Outcome::NeedInput,
        }
    }
}

#[cfg(test)]
impl TextGatherer {
    /// Bytes of memory held for text.
    pub(super) fn capacity(&self) -> usize {
        self.head.capacity() + self.body.as_ref().map_or(0, |body| body.bytes.capacity())
    }
}

impl Body {
    fn into_event<'a>(self) -> Event<'a> {
        match self.head {
            Head::Response(mut response) => {
                response.body = self.bytes;
                Event::Response(response)
            }
            Head::Request(mut request) => {
                request.body = self.bytes;
                Event::Request(request)
            }
        }
    }
}

/// Reads a Content-Length; missing or empty is 0.
fn content_length(value: &str) -> Result<usize, FramerError> {
    if !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(FramerError::BadContentLength { value: value.chars().take(32).collect() });
    }
    // Digits that do not fit are many.
    let len = if value.is_empty() { 0 } else { value.parse().unwrap_or(u64::MAX) };
    usize::try_from(len)
        .ok()
        .filter(|&len| len <= RTSP_BODY_LEN_MAX)
        .ok_or(FramerError::BodyTooLong { len, limit: RTSP_BODY_LEN_MAX })
}
