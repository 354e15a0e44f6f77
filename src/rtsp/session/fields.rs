//! Header fields of SETUP and PLAY answers: Transport, Session, RTP-Info, Public (RFC 2326 section 12).

use std::time::Duration;

/// The interleaved channels of one media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// RTP.
    pub rtp: u8,
    /// RTCP; missing only when RTP has channel 255 and the camera named no other.
    pub rtcp: Option<u8>,
}

/// What the camera says the first packet will be. Advisory: cameras send zeros, other streams' numbers, and
/// numbers that never come, so nothing may be filtered by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtpInfo {
    /// Synchronisation source, from Transport.
    pub ssrc: Option<u32>,
    /// First sequence number.
    pub sequence: Option<u16>,
    /// RTP time of the start of the range.
    pub rtp_time: Option<u32>,
}

/// What a SETUP answer's Transport comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Interleaved, on these channels.
    Channels(Channels),
    /// TCP, or nothing said that contradicts it: the channels that were asked for.
    AsAsked,
    /// UDP.
    Refused,
}

/// Reads a Transport; its parts stand in any order, with blanks around them.
pub(super) fn parse_transport(value: &str) -> Transport {
    let (mut is_tcp, mut is_udp, mut names_ports) = (false, false, false);
    for part in value.split(';') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "interleaved" => return parse_interleaved(value).map_or(Transport::AsAsked, Transport::Channels),
            "client_port" | "server_port" => names_ports = true,
            protocol if protocol.ends_with("/tcp") => is_tcp = true,
            protocol if protocol.ends_with("/udp") => is_udp = true,
            _ => {}
        }
    }
    // `RTP/AVP;unicast` alone is how sloppy cameras repeat our request for TCP; with ports it is meant.
    if is_udp || (names_ports && !is_tcp) { Transport::Refused } else { Transport::AsAsked }
}

/// `0-1`, `8`, `10-11`. `None` when they are no channels (`256-257`).
fn parse_interleaved(value: &str) -> Option<Channels> {
    let (rtp, rtcp) = value.split_once('-').map_or((value, None), |(rtp, rtcp)| (rtp, Some(rtcp)));
    let rtp: u8 = rtp.trim().parse().ok()?;
    let rtcp = rtcp.and_then(|rtcp| rtcp.trim().parse().ok()).filter(|&rtcp| rtcp != rtp);
    Some(Channels { rtp, rtcp: rtcp.or(rtp.checked_add(1)) })
}

/// Splits a Session into the id and the timeout, `None` if missing, zero or no number.
pub(super) fn parse_session(value: &str) -> (&str, Option<Duration>) {
    let mut parts = value.split(';').map(str::trim);
    let id = parts.next().unwrap_or("");
    let timeout = parts
        .filter_map(|part| part.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))
        .and_then(|(_, seconds)| seconds.trim().parse::<u32>().ok())
        .filter(|&seconds| seconds > 0)
        .map(|seconds| Duration::from_secs(seconds.into()));
    (id, timeout)
}

/// Reads the `ssrc` of a Transport: eight hexadecimal digits (RFC 2326 section 12.39), of which cameras leave out leading zeros,
/// and before which they put blanks and `0x`. `None` when it says several different ones.
pub(super) fn parse_ssrc(value: &str) -> Option<u32> {
    let named = value.split(';').filter_map(|part| part.split_once('='));
    let mut all = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("ssrc")).map(|(_, value)| {
        let digits = value.trim();
        u32::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
    });
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}

/// Reads the first stream of an RTP-Info; we set up only one.
pub(super) fn parse_rtp_info(value: &str) -> RtpInfo {
    let first = value.split(',').next().unwrap_or("");
    let mut info = RtpInfo::default();
    for (name, value) in first.split(';').filter_map(|part| part.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "seq" => info.sequence = value.trim().parse().ok(),
            "rtptime" => info.rtp_time = value.trim().parse().ok(),
            _ => {}
        }
    }
    info
}

/// Whether a Public lists a method.
pub(super) fn lists_method(value: &str, method: &str) -> bool {
    value.split(',').any(|listed| listed.trim().eq_ignore_ascii_case(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(rtp: u8, rtcp: u8) -> Transport {
        Transport::Channels(Channels { rtp, rtcp: Some(rtcp) })
    }

    #[test]
    fn row10_other_channels_than_asked() {
        assert_eq!(parse_transport("RTP/AVP/TCP;unicast;interleaved=8-9"), on(8, 9));
        assert_eq!(parse_transport("RTP/AVP/TCP;unicast;interleaved=10-11;ssrc=1"), on(10, 11));
        assert_eq!(parse_transport("RTP/AVP/TCP;interleaved=3-7"), on(3, 7));
    }

    #[test]
    fn row28_single_channel_any_order_blanks_and_no_tcp() {
        assert_eq!(parse_transport("RTP/AVP/TCP;unicast;interleaved=0"), on(0, 1));
        assert_eq!(parse_transport("RTP/AVP;unicast;interleaved=0-1"), on(0, 1));
        assert_eq!(parse_transport("RTP/AVP/TCP; ssrc= 0x12 ; interleaved = 2 - 3 ; unicast"), on(2, 3));
        assert_eq!(parse_transport("interleaved=4-5;RTP/AVP/TCP"), on(4, 5));
    }

    #[test]
    fn hostile_channels_do_not_overflow() {
        let last = Transport::Channels(Channels { rtp: 255, rtcp: None });
        assert_eq!(parse_transport("RTP/AVP/TCP;interleaved=255"), last);
        assert_eq!(parse_transport("RTP/AVP/TCP;interleaved=255-256"), last);
        assert_eq!(parse_transport("RTP/AVP/TCP;interleaved=256-257"), Transport::AsAsked);
        assert_eq!(parse_transport("RTP/AVP/TCP;interleaved=-"), Transport::AsAsked);
    }

    #[test]
    fn row30_udp_in_the_answer() {
        assert_eq!(parse_transport("RTP/AVP;unicast;client_port=1-2;server_port=0-0"), Transport::Refused);
        assert_eq!(parse_transport("RTP/AVP/UDP;unicast"), Transport::Refused);
        assert_eq!(parse_transport("RTP/AVP/TCP;unicast;server_port=0-0"), Transport::AsAsked);
    }

    #[test]
    fn row24_session_with_blanks_zero_and_extra_parameters() {
        let minute = Some(Duration::from_secs(60));
        assert_eq!(parse_session("12ab;timeout=60 "), ("12ab", minute));
        assert_eq!(parse_session("12ab ; foo=bar; Timeout = 60;x"), ("12ab", minute));
        assert_eq!(parse_session("12ab;timeout=0"), ("12ab", None));
        assert_eq!(parse_session("12ab;timeout=-5"), ("12ab", None));
        assert_eq!(parse_session("12ab"), ("12ab", None));
        assert_eq!(parse_session(""), ("", None));
    }

    #[test]
    fn row29_the_source_of_a_transport() {
        let ssrc = |value| parse_ssrc(&format!("RTP/AVP/TCP;unicast;{value};mode=play"));
        assert_eq!(ssrc("ssrc=0A13C760"), Some(0x0a13_c760));
        assert_eq!(ssrc("ssrc= 0x1234567"), Some(0x0123_4567));
        assert_eq!(ssrc("SSRC=beef"), Some(0xbeef));
        for none in
            ["ssrc", "ssrc=", "ssrc=-1", "ssrc=xyz", "ssrc=123456789", "ssrc=1;ssrc=2", "interleaved=0-1"]
        {
            assert_eq!(ssrc(none), None, "{none}");
        }
    }

    #[test]
    fn row61_rtp_info_is_read_as_far_as_it_goes() {
        let info = |sequence, rtp_time| RtpInfo { ssrc: None, sequence, rtp_time };
        assert_eq!(parse_rtp_info("url=rtsp://c/t1;seq=7;rtptime=9;"), info(Some(7), Some(9)));
        assert_eq!(parse_rtp_info("url=x;seq=70000;rtptime=-1"), info(None, None));
        assert_eq!(parse_rtp_info("seq=1,url=y;seq=2"), info(Some(1), None));
    }

    #[test]
    fn methods_are_listed_with_commas() {
        assert!(lists_method("OPTIONS,  get_parameter ,PLAY", "GET_PARAMETER"));
        assert!(!lists_method("OPTIONS, SET_PARAMETER", "GET_PARAMETER"));
    }
}
