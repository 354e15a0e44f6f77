//! Splits what a camera sends over TCP into interleaved frames and RTSP messages (RFC 2326 section 10.12).
//!
//! Payload is handed on in slices of the caller's input, whatever the frame's size and however it straddles
//! reads; only text is gathered, within limits, and a frame whose truth the next header tells. When the next byte cannot begin anything, the framer searches
//! for the next believable beginning, says how much it skipped, and goes on.
//!
//! Invariant: `Ok(None)` means that all input was consumed. The events do not depend on how the stream was
//! split, except for the number of pieces that one payload or one skipped run comes in, and for whether a frame is told
//! as a whole.

mod lead;
mod stranger;
mod text;

use self::lead::{Expected, FRAME_HEADER_LEN, LEAD_LEN_MAX, Verdict, judge_in_search, judge_in_step};
use self::stranger::Stranger;
use self::text::TextGatherer;
use super::message::{Request, Response};
use crate::limits::RTSP_RESYNC_LEN_MAX;

/// One thing that the camera sent. The events of one frame are `DataStart`, any number of `Data`, `DataEnd`; or `Frame`
/// alone, when all of it is in the input, as nearly all frames of a camera are that sends whole access units.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole answer.
    Response(Response),
    /// A whole request from the camera.
    Request(Request),
    /// A whole interleaved frame.
    Frame {
        /// Its channel.
        channel: u8,
        /// Its payload; may be empty.
        payload: &'a [u8],
    },
    /// A whole interleaved frame that was found in search of one, and believed only after what came next.
    Found {
        /// Its channel.
        channel: u8,
        /// Its payload.
        payload: Vec<u8>,
    },
    /// An interleaved frame begins.
    DataStart {
        /// Its channel; may be one that nobody set up.
        channel: u8,
        /// Its payload's bytes; may be 0.
        len: u16,
    },
    /// The next bytes of the frame's payload, never empty.
    Data(&'a [u8]),
    /// The frame's payload is complete.
    DataEnd,
    /// Bytes that belonged to nothing were dropped. If a frame came directly before, the camera may have cut
    /// it short, and its last bytes are not to be trusted.
    Skipped {
        /// How many since the last `Skipped`.
        bytes: usize,
    },
}

/// Why the connection cannot be read on: close and reconnect. What is given to the framer afterwards is read as if the connection
/// began there, which is enough to hear the answer to a last word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FramerError {
    /// a message's head grew past {limit} bytes
    #[error("a message's head grew past {limit} bytes")]
    HeadTooLong {
        /// [`RTSP_HEAD_LEN_MAX`](crate::limits::RTSP_HEAD_LEN_MAX).
        limit: usize,
    },
    /// a message has more than {limit} header lines
    #[error("a message has more than {limit} header lines")]
    TooManyHeaders {
        /// [`RTSP_HEADERS_MAX`](crate::limits::RTSP_HEADERS_MAX).
        limit: usize,
    },
    /// Content-Length {len} is over the limit of {limit}
    #[error("Content-Length {len} is over the limit of {limit}")]
    BodyTooLong {
        /// What the message announced; saturated.
        len: u64,
        /// [`RTSP_BODY_LEN_MAX`](crate::limits::RTSP_BODY_LEN_MAX).
        limit: usize,
    },
    /// Content-Length is not a number: {value:?}
    #[error("Content-Length is not a number: {value:?}")]
    BadContentLength {
        /// The value, cut to 32 characters.
        value: String,
    },
    /// no frame found in {skipped} bytes
    #[error("no frame found in {skipped} bytes")]
    OutOfStep {
        /// Bytes skipped since the last frame or message.
        skipped: usize,
    },
}

/// The state of one connection's receiving side.
#[derive(Debug, Default)]
pub struct Framer {
    state: State,
    expected: Expected,
    /// Bytes that were taken from the input and not yet judged; in `Payload`, payload that had to be looked at.
    lead: Lead,
    text: TextGatherer,
    /// Begins in the bytes that this search has passed, and is not believed yet.
    stranger: Option<Stranger>,
    /// Skipped and not yet told.
    skipped: usize,
    /// Skipped since the last frame or message.
    searched: usize,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// Between messages.
    #[default]
    InStep,
    /// Looking for a believable beginning.
    Search,
    /// The search ended: `lead` begins a frame or text.
    Found(Verdict),
    /// As that, and so the stranger before it is a frame as well.
    FoundBoth(Verdict),
    Payload {
        left: usize,
    },
    Text,
}

/// What one step of the machine came to.
enum Step<'a> {
    Event(Event<'a>),
    Continue,
    NeedInput,
}

impl Framer {
    /// A framer at the start of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells which channels the session agreed on. Frames on others still come through while the stream is in
    /// step; in search of the next frame only these are believed.
    pub fn set_channels(&mut self, rtp: u8, rtcp: Option<u8>) {
        self.expected.rtp_channel = Some(rtp);
        self.expected.rtcp_channel = rtcp;
    }

    /// Tells the RTP payload type that the SDP announced, which makes the search for the next frame surer.
    pub fn set_payload_type(&mut self, payload_type: u8) {
        self.expected.payload_type = Some(payload_type);
    }

    /// The synchronisation source of the packets that come; used to tell them from chance when the stream is out of step.
    pub const fn set_source(&mut self, source: Option<u32>) {
        self.expected.source = source;
    }

    /// Takes the next event from the front of `input`. `Ok(None)`: all of it was consumed, bring more.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, FramerError> {
        loop {
            let step = match self.state {
                State::InStep => self.step_in_step(input)?,
                State::Search => self.step_search(input)?,
                State::Found(verdict) => self.step_found(verdict),
                State::FoundBoth(verdict) => self.step_found_both(verdict),
                State::Payload { left } => self.step_payload(left, input),
                State::Text => self.step_text(input)?,
            };
            match step {
                Step::Event(event) => return Ok(Some(event)),
                Step::Continue => {}
                Step::NeedInput => return Ok(None),
            }
        }
    }

    fn step_in_step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, FramerError> {
        if self.lead.is_empty() {
            skip_padding(input);
            // The usual case: a whole header of a known channel, judged where it lies.
            if let [b'$', channel, high, low, rest @ ..] = *input
                && self.expected.knows(*channel)
            {
                let len = u16::from_be_bytes([*high, *low]);
                if let Some((payload, rest)) = rest.split_at_checked(len.into()) {
                    *input = rest;
                    self.searched = 0;
                    return Ok(Step::Event(Event::Frame { channel: *channel, payload }));
                }
                *input = rest;
                return Ok(self.begin_frame(*channel, len));
            }
        }
        self.step_lead(input)
    }

    /// Out of line, as all is that is not the usual case: what stands beside the usual case makes it slower.
    #[inline(never)]
    fn step_lead<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, FramerError> {
        if !self.lead.take_from(input) {
            return Ok(Step::NeedInput);
        }
        Ok(match judge_in_step(self.lead.bytes(), &self.expected) {
            Verdict::Undecided => Step::Continue,
            Verdict::Stranger | Verdict::Garbage => {
                self.state = State::Search;
                Step::Continue
            }
            Verdict::Frame if self.is_of_another_channel() => {
                self.state = State::Search;
                self.stranger = self.lead.bytes().first_chunk().map(|header| Stranger::new(None, *header));
                self.pass_first()?
            }
            verdict @ (Verdict::Frame | Verdict::Text) => self.begin(verdict),
        })
    }

    /// Whether the lead, a frame, is none of ours though ours flow: where the rest of a frame that was cut short seemed to end, one
    /// place in a thousand looks like that.
    fn is_of_another_channel(&self) -> bool {
        let is_flowing = self.expected.rtp_channel.is_some() && self.expected.source.is_some();
        is_flowing && self.lead.bytes().get(1).is_some_and(|channel| !self.expected.knows(*channel))
    }

    #[inline(never)]
    fn step_search<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, FramerError> {
        let is_behind_stranger = self.stranger.as_ref().is_some_and(Stranger::ends_here);
        if self.lead.is_empty() && !is_behind_stranger {
            let len = input.iter().position(|b| matches!(b, b'$' | b'R')).unwrap_or(input.len());
            // Behind a stranger, other bytes may begin something too.
            let left = self.stranger.as_ref().map_or(0, Stranger::left);
            let (garbage, rest) = input.split_at(if left > 0 { len.min(left) } else { len });
            *input = rest;
            self.pass(garbage)?;
        } else {
            let verdict = if is_behind_stranger {
                judge_in_step(self.lead.bytes(), &self.expected)
            } else {
                judge_in_search(self.lead.bytes(), &self.expected)
            };
            match verdict {
                Verdict::Undecided => {}
                Verdict::Garbage => return self.pass_first(),
                Verdict::Stranger => return self.meet_stranger(),
                Verdict::Frame | Verdict::Text if is_behind_stranger => {
                    self.state = State::FoundBoth(verdict);
                    return Ok(Step::Continue);
                }
                Verdict::Frame | Verdict::Text => {
                    self.forget_stranger();
                    self.state = State::Found(verdict);
                    return Ok(Step::Continue);
                }
            }
        }
        if !self.lead.take_from(input) {
            return Ok(self.told_skip().map_or(Step::NeedInput, Step::Event));
        }
        Ok(Step::Continue)
    }

    /// The lead begins a packet of another source than was sending. It is believed if one of its own went before it; else it is to
    /// wait for another, and no other waits: of two, the first was chance.
    fn meet_stranger<'a>(&mut self) -> Result<Step<'a>, FramerError> {
        if let Some((source, header)) = lead::stranger(self.lead.bytes()) {
            if self.stranger.as_ref().is_some_and(|before| before.is_followed_by(source)) {
                self.state = State::FoundBoth(Verdict::Frame);
                return Ok(Step::Continue);
            }
            self.forget_stranger();
            self.stranger = Some(Stranger::new(Some(source), header));
        }
        self.pass_first()
    }

    fn forget_stranger(&mut self) {
        self.skipped += self.stranger.take().map_or(0, |stranger| stranger.passed());
    }

    fn pass_first<'a>(&mut self) -> Result<Step<'a>, FramerError> {
        if let Some(first) = self.lead.drop_first() {
            self.pass(&[first])?;
        }
        Ok(Step::Continue)
    }

    /// Nothing that can be believed by itself begins with these bytes.
    fn pass(&mut self, bytes: &[u8]) -> Result<(), FramerError> {
        match &mut self.stranger {
            Some(stranger) => stranger.pass(bytes),
            None => self.skipped += bytes.len(),
        }
        self.note_searched(bytes.len())
    }

    fn note_searched(&mut self, len: usize) -> Result<(), FramerError> {
        self.searched += len;
        if self.searched > RTSP_RESYNC_LEN_MAX {
            self.begin_anew();
            // However much more of it came at once.
            return Err(FramerError::OutOfStep { skipped: RTSP_RESYNC_LEN_MAX + 1 });
        }
        Ok(())
    }

    /// An error ends what was under way: how far that had come depends on the portions that it came in.
    #[cold]
    fn begin_anew(&mut self) {
        *self = Self { expected: self.expected, ..Self::default() };
    }

    /// What was skipped is told before what was found.
    fn step_found<'a>(&mut self, verdict: Verdict) -> Step<'a> {
        self.told_skip().map_or_else(|| self.begin(verdict), Step::Event)
    }

    #[inline(never)]
    fn step_found_both<'a>(&mut self, verdict: Verdict) -> Step<'a> {
        if let Some(skipped) = self.told_skip() {
            return Step::Event(skipped);
        }
        self.state = State::Found(verdict);
        let Some(stranger) = self.stranger.take() else { return Step::Continue };
        let (channel, payload, behind) = stranger.into_parts();
        self.skipped = behind;
        Step::Event(Event::Found { channel, payload })
    }

    fn told_skip<'a>(&mut self) -> Option<Event<'a>> {
        match std::mem::take(&mut self.skipped) {
            0 => None,
            bytes => Some(Event::Skipped { bytes }),
        }
    }

    /// Begins what the lead was judged to be. Invariant: `verdict` is `Frame` or `Text`, and a lead that is a
    /// frame has a whole header.
    fn begin<'a>(&mut self, verdict: Verdict) -> Step<'a> {
        if verdict == Verdict::Frame
            && let Some([_, channel, high, low]) = self.lead.take_frame_header()
        {
            return self.begin_frame(channel, u16::from_be_bytes([high, low]));
        }
        self.text.begin(self.lead.bytes());
        self.lead.clear();
        self.state = State::Text;
        Step::Continue
    }

    fn begin_frame<'a>(&mut self, channel: u8, len: u16) -> Step<'a> {
        self.searched = 0;
        self.state = State::Payload { left: usize::from(len) };
        Step::Event(Event::DataStart { channel, len })
    }

    fn step_payload<'a>(&mut self, left: usize, input: &mut &'a [u8]) -> Step<'a> {
        if left == 0 {
            self.state = State::InStep;
            return Step::Event(Event::DataEnd);
        }
        if let Some(byte) = self.lead.drop_first() {
            self.state = State::Payload { left: left - 1 };
            return Step::Event(Event::Data(one_byte(byte)));
        }
        let (data, rest) = input.split_at(left.min(input.len()));
        if data.is_empty() {
            return Step::NeedInput;
        }
        *input = rest;
        self.state = State::Payload { left: left - data.len() };
        Step::Event(Event::Data(data))
    }

    fn step_text<'a>(&mut self, input: &mut &'a [u8]) -> Result<Step<'a>, FramerError> {
        Ok(match self.text.gather(input).inspect_err(|_| self.begin_anew())? {
            text::Outcome::NeedInput => Step::NeedInput,
            text::Outcome::Complete(event) => {
                self.state = State::InStep;
                self.searched = 0;
                Step::Event(event)
            }
            text::Outcome::NotText { len } => {
                self.state = State::Search;
                self.skipped += len;
                self.note_searched(len)?;
                Step::Continue
            }
        })
    }
}

/// The few bytes that are being judged. Invariant: `len <= LEAD_LEN_MAX`; judges decide before it is full.
#[derive(Debug, Default)]
struct Lead {
    bytes: [u8; LEAD_LEN_MAX],
    len: usize,
}

impl Lead {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    /// Moves one byte from the front of `input`; false when there is none.
    fn take_from(&mut self, input: &mut &[u8]) -> bool {
        let (Some((&byte, rest)), Some(slot)) = (input.split_first(), self.bytes.get_mut(self.len)) else {
            debug_assert!(self.len < LEAD_LEN_MAX, "a judge must decide within LEAD_LEN_MAX bytes");
            return false;
        };
        *slot = byte;
        self.len += 1;
        *input = rest;
        true
    }

    fn drop_first(&mut self) -> Option<u8> {
        let &first = self.bytes().first()?;
        self.bytes.rotate_left(1);
        self.len -= 1;
        Some(first)
    }

    /// Takes the header off a lead that was judged to be a frame; what stays is payload.
    fn take_frame_header(&mut self) -> Option<[u8; FRAME_HEADER_LEN]> {
        let header = *self.bytes().first_chunk::<FRAME_HEADER_LEN>()?;
        self.bytes.rotate_left(FRAME_HEADER_LEN);
        self.len -= FRAME_HEADER_LEN;
        Some(header)
    }
}

/// Cameras end bodies with blank lines that no length counts, and fill up with zeros.
fn skip_padding(input: &mut &[u8]) {
    while let [b'\r' | b'\n' | 0, rest @ ..] = *input {
        *input = rest;
    }
}

/// A slice that holds `byte`, for payload bytes whose input is gone.
fn one_byte(byte: u8) -> &'static [u8] {
    static BYTES: [u8; 256] = {
        let mut bytes = [0; 256];
        let mut value = 0u8;
        loop {
            // The index is a u8 and the table has 256 entries.
            #[expect(clippy::indexing_slicing, reason = "a u8 cannot be out of range of 256 entries")]
            {
                bytes[value as usize] = value;
            }
            if value == u8::MAX {
                break bytes;
            }
            value += 1;
        }
    };
    BYTES.get(usize::from(byte)).map_or(&[], std::slice::from_ref)
}

#[cfg(test)]
mod tests;
