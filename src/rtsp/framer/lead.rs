//! What the first bytes after a message are: an interleaved frame, text, or neither.
//!
//! The judgement depends on the bytes alone, never on how they were split into reads, so the same stream gives
//! the same frames whatever the kernel handed over at a time.

/// The most bytes a judgement needs: a method name, a blank, and one byte of the URI.
pub(super) const LEAD_LEN_MAX: usize = METHOD_LEN_MAX + 2;
const _: () =
    assert!(LEAD_LEN_MAX >= FRAME_HEADER_LEN + RTP_LEN_MIN as usize, "a frame header and an RTP header");

/// Bytes of a `$` frame's header: the dollar, the channel, two of length (RFC 2326 section 10.12).
pub(super) const FRAME_HEADER_LEN: usize = 4;

/// What the session agreed on; used to tell frames from chance.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected {
    pub(super) rtp_channel: Option<u8>,
    pub(super) rtcp_channel: Option<u8>,
    pub(super) payload_type: Option<u8>,
    /// Synchronisation source of the video that comes.
    pub(super) source: Option<u32>,
}

impl Expected {
    pub(super) fn knows(&self, channel: u8) -> bool {
        self.rtp_channel == Some(channel) || self.rtcp_channel == Some(channel)
    }
}

/// What a lead is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It takes more bytes to say.
    Undecided,
    /// An interleaved frame.
    Frame,
    /// A status line or a request line.
    Text,
    /// An interleaved frame, if it is not chance: what it carries looks like a packet of ours, but of another source.
    Stranger,
    /// Nothing that belongs here.
    Garbage,
}

/// Judges at a place where a frame or a message must begin, because the one before ended there.
///
/// A channel that nobody agreed on is possible here (data from before SETUP, a second track), but only if its
/// payload begins like RTP or RTCP version 2.
pub(super) fn judge_in_step(lead: &[u8], expected: &Expected) -> Verdict {
    match *lead {
        [b'$', channel, high, low, ref payload @ ..] => match payload.first() {
            _ if expected.knows(channel) || (high, low) == (0, 0) => Verdict::Frame,
            None => Verdict::Undecided,
            Some(&first) if is_version_2(first) => Verdict::Frame,
            Some(_) => Verdict::Garbage,
        },
        [b'$', ..] => Verdict::Undecided,
        _ => judge_text(lead),
    }
}

/// Judges at an arbitrary place, in search of the next frame: a dollar alone proves nothing, since one byte in
/// 256 of any payload is one.
pub(super) fn judge_in_search(lead: &[u8], expected: &Expected) -> Verdict {
    match *lead {
        [b'$', channel, ..] if !is_likely_channel(channel, expected) => Verdict::Garbage,
        [b'$', channel, high, low, first, second, ref rest @ ..] => {
            match judge_packet(channel, u16::from_be_bytes([high, low]), first, second, expected) {
                Verdict::Frame if !is_rtcp(second) => judge_source(rest, expected),
                verdict @ (Verdict::Undecided
                | Verdict::Frame
                | Verdict::Text
                | Verdict::Stranger
                | Verdict::Garbage) => verdict,
            }
        }
        [b'$', _, _, _, first] if !is_version_2(first) => Verdict::Garbage,
        [b'$', ..] => Verdict::Undecided,
        [b'R', ..] if lead.starts_with(STATUS_LINE) => Verdict::Text,
        [b'R', ..] if STATUS_LINE.starts_with(lead) => Verdict::Undecided,
        _ => Verdict::Garbage,
    }
}

fn judge_packet(channel: u8, len: u16, first: u8, second: u8, expected: &Expected) -> Verdict {
    let is_rtcp = is_rtcp(second);
    let payload_type_fits = is_rtcp || expected.payload_type.is_none_or(|expected| expected == second & 0x7f);
    // Only RTCP belongs on the RTCP channel; some cameras put RTCP on the RTP channel as well.
    let content_fits = is_rtcp || expected.rtcp_channel != Some(channel);
    let len_min = if is_rtcp { RTCP_LEN_MIN } else { RTP_LEN_MIN };
    // RTCP comes in words of four bytes (RFC 3550 section 6.4).
    let len_fits = len >= len_min && (!is_rtcp || len.is_multiple_of(4));
    if is_version_2(first) && payload_type_fits && content_fits && len_fits {
        Verdict::Frame
    } else {
        Verdict::Garbage
    }
}

/// `rest`: an RTP header from its third byte on. What else fits comes by chance once in some thousand places of a payload that
/// is searched, and takes a frame of up to 64 KiB along; the source of the packets before, once in 2^32.
fn judge_source(rest: &[u8], expected: &Expected) -> Verdict {
    match (expected.source, rest) {
        (None, _) => Verdict::Frame,
        (Some(source), [_, _, _, _, _, _, ssrc @ ..]) => match ssrc.first_chunk() {
            Some(ssrc) if u32::from_be_bytes(*ssrc) == source => Verdict::Frame,
            Some(_) => Verdict::Stranger,
            None => Verdict::Undecided,
        },
        (Some(_), _) => Verdict::Undecided,
    }
}

/// The source of a lead that was judged to be a stranger, and its frame's header.
pub(super) fn stranger(lead: &[u8]) -> Option<(u32, [u8; FRAME_HEADER_LEN])> {
    let header = lead.first_chunk()?;
    let ssrc = lead.get(FRAME_HEADER_LEN + SSRC_AT..)?.first_chunk()?;
    Some((u32::from_be_bytes(*ssrc), *header))
}

fn judge_text(lead: &[u8]) -> Verdict {
    if lead.starts_with(STATUS_LINE) {
        return Verdict::Text;
    }
    let method_len = lead.iter().take_while(|b| b.is_ascii_uppercase() || **b == b'_').count();
    match (lead.get(method_len), lead.get(method_len + 1)) {
        _ if method_len > METHOD_LEN_MAX => Verdict::Garbage,
        // `RTSP/` on its way to a status line.
        (None, _) => Verdict::Undecided,
        (Some(b'/'), _) if STATUS_LINE.starts_with(lead) => Verdict::Undecided,
        (Some(b' '), _) if method_len < METHOD_LEN_MIN => Verdict::Garbage,
        (Some(b' '), None) => Verdict::Undecided,
        (Some(b' '), Some(b'r' | b'R' | b'*' | b'/')) => Verdict::Text,
        (Some(_), _) => Verdict::Garbage,
    }
}

fn is_likely_channel(channel: u8, expected: &Expected) -> bool {
    let agreed = expected.rtp_channel.is_some() || expected.rtcp_channel.is_some();
    if agreed { expected.knows(channel) } else { channel < UNAGREED_CHANNELS }
}

const fn is_version_2(first: u8) -> bool {
    first >> 6 == 2
}

/// RTCP packet types stand where RTP has the marker bit and payload types 72 to 79 (RFC 5761 section 4).
const fn is_rtcp(second: u8) -> bool {
    matches!(second, 200..=207)
}

const STATUS_LINE: &[u8] = b"RTSP/";
/// `PLAY` and `SETUP` are the shortest methods; three letters leave room and keep chance out.
const METHOD_LEN_MIN: usize = 3;
const METHOD_LEN_MAX: usize = 16;
/// An RTP header without contributing sources.
const RTP_LEN_MIN: u16 = 12;
/// Where an RTP header has its source (RFC 3550 section 5.1).
const SSRC_AT: usize = 8;
/// An empty receiver report.
const RTCP_LEN_MIN: u16 = 8;
/// Before SETUP, channels below this are believed; go2rtc uses the same number.
const UNAGREED_CHANNELS: u8 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const AGREED: Expected =
        Expected { rtp_channel: Some(0), rtcp_channel: Some(1), payload_type: Some(96), source: None };

    #[test]
    fn in_step_any_channel_may_come() {
        assert_eq!(judge_in_step(b"$\x00\x00\x10", &AGREED), Verdict::Frame);
        assert_eq!(judge_in_step(b"$\x09\x00\x10", &AGREED), Verdict::Undecided);
        assert_eq!(judge_in_step(b"$\x09\x00\x10\x80", &AGREED), Verdict::Frame);
        assert_eq!(judge_in_step(b"$\x09\x00\x10\x40", &AGREED), Verdict::Garbage);
        assert_eq!(judge_in_step(b"$\x09\x00\x00", &AGREED), Verdict::Frame);
    }

    #[test]
    fn text_is_a_status_line_or_a_request_line() {
        for whole in [&b"RTSP/"[..], b"OPTIONS r", b"SET_PARAMETER *", b"REDIRECT R"] {
            for len in 1..whole.len() {
                assert_eq!(judge_in_step(&whole[..len], &AGREED), Verdict::Undecided, "{:?}", &whole[..len]);
            }
            assert_eq!(judge_in_step(whole, &AGREED), Verdict::Text);
        }
        for garbage in [&b"AB "[..], b"ABCDEFGHIJKLMNOPQ", b"OPTIONS x", b"abc", b"\x80", b"RTSX/"] {
            assert_eq!(judge_in_step(garbage, &AGREED), Verdict::Garbage, "{garbage:?}");
        }
    }

    #[test]
    fn row3_a_dollar_in_search_must_look_like_our_packets() {
        for (lead, verdict) in [
            (&b"$\x00\x05\x00\x80\x60"[..], Verdict::Frame),
            (b"$\x00\x05\x00\x80\xe0", Verdict::Frame),
            (b"$\x00\x00\x08\x81\xc8", Verdict::Frame),
            (b"$\x01\x00\x1c\x80\xc8", Verdict::Frame),
            (b"$\x02\x05\x00\x80\x60", Verdict::Garbage),
            (b"$\x00\x00\x0b\x80\x60", Verdict::Garbage),
            (b"$\x00\x05\x00\x40\x60", Verdict::Garbage),
            (b"$\x00\x05\x00\x80\x61", Verdict::Garbage),
            (b"$\x01\x05\x00\x80\x60", Verdict::Garbage),
            (b"RTSP/", Verdict::Text),
            (b"RTSX", Verdict::Garbage),
        ] {
            assert_eq!(judge_in_search(lead, &AGREED), verdict, "{lead:?}");
        }
    }

    #[test]
    fn row3_in_search_a_packet_is_of_the_source_that_sends() {
        let expected = Expected { source: Some(0x0102_0304), ..AGREED };
        let lead = b"$\x00\x05\x00\x80\x60\x00\x01\x00\x00\x00\x02\x01\x02\x03\x04";
        for len in 1..lead.len() {
            assert_eq!(judge_in_search(&lead[..len], &expected), Verdict::Undecided, "{len} bytes");
        }
        assert_eq!(judge_in_search(lead, &expected), Verdict::Frame);
        let other = Expected { source: Some(7), ..AGREED };
        assert_eq!(judge_in_search(lead, &other), Verdict::Stranger);
        assert_eq!(stranger(lead), Some((0x0102_0304, *b"$\x00\x05\x00")));
        // Reports may be of anybody, but have whole words.
        assert_eq!(judge_in_search(b"$\x01\x00\x1c\x80\xc8", &other), Verdict::Frame);
        assert_eq!(judge_in_search(b"$\x01\x00\x1d\x80\xc8", &other), Verdict::Garbage);
    }
}
