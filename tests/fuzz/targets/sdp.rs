//! Any session description, and what is made of it: the URIs of SETUP and PLAY.
//!
//! The input is a Content-Base, a byte 0xFF, and the description; without that byte all of it is the description.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vms_fuzz::memory;
use vms_pure::codec::Codec;
use vms_pure::limits::{PARAMETER_SET_LEN_MAX, SDP_MEDIA_MAX, SDP_SPROP_LEN_MAX, URL_LEN_MAX};
use vms_pure::rtsp::control::ControlUris;
use vms_pure::rtsp::sdp::{self, NoVideo};
use vms_pure::rtsp::{CameraUrl, Media, MediaKind, SdpError, SessionDescription};

fuzz_target!(init: memory::limit(), |data: &[u8]| {
    let base_len = data.iter().position(|&byte| byte == 0xff);
    let (base, body) = base_len.map_or((None, data), |at| (Some(&data[..at]), &data[at + 1..]));
    let held = memory::held();
    let description = sdp::parse(body);
    // Text grows at most threefold, for bytes that are no UTF-8; a section of four bytes has some hundred of its own.
    assert!(memory::held() - held <= 8 * body.len() + SDP_MEDIA_MAX * 1024);

    let mut with_crlf = Vec::with_capacity(2 * body.len());
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        match line.split_last() {
            Some((b'\n', text)) => with_crlf.extend_from_slice(&[text, b"\r\n"].concat()),
            _ => with_crlf.extend_from_slice(line),
        }
    }
    assert_eq!(sdp::parse(&with_crlf), description, "lines end as they like");
    match description {
        Ok(description) => check(base, &description),
        Err(SdpError::Empty) => assert!(body.trim_ascii().is_empty()),
        Err(SdpError::NotSdp) => {
            let says_so = |line: &[u8]| line.starts_with(b"v=") || line.starts_with(b"m=");
            assert!(!body.split(|byte| matches!(byte, b'\r' | b'\n' | 0)).any(says_so));
        }
    }
});

fn check(base: Option<&[u8]>, description: &SessionDescription) {
    assert!(description.media.len() <= SDP_MEDIA_MAX);
    description.media.iter().for_each(check_media);
    let video = description.media.iter().filter(|media| media.kind == MediaKind::Video);
    match description.choose_video() {
        Ok(media) => {
            assert!(media.kind == MediaKind::Video && media.codec.is_some());
            // Only where nothing else is.
            assert!(!media.is_backchannel || video.clone().all(|media| media.is_backchannel));
        }
        Err(NoVideo::NoSection) => assert_eq!(video.count(), 0),
        Err(NoVideo::OtherCodec { encoding }) => assert!(!encoding.is_empty() && video.count() > 0),
    }
    let control = description.media.first().and_then(|media| media.control.as_deref());
    let base = base.map(String::from_utf8_lossy);
    let mut uris = None;
    for url in ["rtsp://10.1.1.1:8554/live", "rtsp://[2001:db8::1]/a?b=c"] {
        uris = Some(check_uris(url, base.as_deref(), description.control.as_deref(), control));
    }
    // Only that it can be done: words that look like passwords are taken out, which takes longest of all.
    let _ = format!("{uris:?} {description:?}");
}

fn check_media(media: &Media) {
    assert!(media.payload_type < 128);
    assert!(!media.encoding.is_empty() && media.encoding.chars().count() <= 32);
    let sets = &media.parameter_sets;
    assert!(sets.iter().all(|set| !set.is_empty() && set.len() <= PARAMETER_SET_LEN_MAX));
    assert!(sets.iter().map(Vec::len).sum::<usize>() <= SDP_SPROP_LEN_MAX);
    match media.codec {
        None => assert!(sets.is_empty()),
        Some(Codec::H264) => assert!(sets.iter().all(|set| matches!(set[0] & 0x1f, 7 | 8))),
        Some(Codec::H265) => assert!(sets.iter().all(|set| matches!(set[0] >> 1 & 0x3f, 32..=34))),
    }
}

/// Requests go to the connection's host and fit on one line, whatever the camera calls itself.
fn check_uris(url: &str, base: Option<&str>, session: Option<&str>, media: Option<&str>) -> ControlUris {
    let (camera, _) = CameraUrl::parse(url).unwrap();
    let uris = ControlUris::resolve(&camera, base, session, media);
    let origin = &url[..url.rfind('/').unwrap()];
    for uri in [&uris.aggregate, &uris.media] {
        let rest = uri.strip_prefix(origin).unwrap_or_else(|| panic!("{uri} is not at {origin}"));
        assert!(rest.starts_with(['/', '?']), "{uri}");
        assert!(uri.bytes().all(|byte| byte.is_ascii_graphic()), "{uri}");
        assert!(uri.len() <= 2 * URL_LEN_MAX + url.len(), "{} bytes", uri.len());
    }
    uris
}
