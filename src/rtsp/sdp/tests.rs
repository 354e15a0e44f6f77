//! Descriptions that cameras sent, shortened to what matters.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use proptest::prelude::*;

use super::*;

const USUAL: &str = "v=0\r\no=- 1 1 IN IP4 10.0.0.9\r\ns=Media Server\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
    a=control:*\r\na=range:npt=0-\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\na=rtpmap:8 PCMA/8000\r\n\
    m=video 0 RTP/AVP 96\r\na=control:trackID=0\r\na=rtpmap:96 H264/90000\r\n\
    a=fmtp:96 packetization-mode=1;profile-level-id=4D002A;sprop-parameter-sets=Z00AKp2oHgCJ+WbgICAoAAADAAgAAAMAfCA=,aO48gA==\r\n\
    a=recvonly\r\n";

#[test]
fn the_usual_description() {
    let sdp = parsed(USUAL);
    assert_eq!(sdp.control.as_deref(), Some("*"));
    assert_eq!(sdp.media[0].kind, MediaKind::Audio);
    assert_eq!((sdp.media[0].codec, sdp.media[0].clock_rate.get()), (None, 8000));
    let video = sdp.choose_video().unwrap();
    assert_eq!((video.payload_type, video.codec, video.clock_rate.get()), (96, Some(Codec::H264), 90_000));
    assert_eq!(video.control.as_deref(), Some("trackID=0"));
    let types: Vec<u8> = video.parameter_sets.iter().map(|set| set[0] & 0x1f).collect();
    assert_eq!(types, [7, 8]);
    assert_eq!(parsed(&USUAL.replace("\r\n", "\n")), sdp, "LF only");
    assert_eq!(parsed(&USUAL.replace("\r\n", "\r")), sdp, "CR only");
}

#[test]
fn row39_a_backchannel_is_not_chosen() {
    let sdp = parsed(
        "v=0\nm=video 0 RTP/AVP 97\na=sendonly\na=rtpmap:97 H264/90000\n\
         m=video 0 RTP/AVP 96\na=rtpmap:96 H265/90000\nm=audio 0 RTP/AVP 0\na=sendonly\n",
    );
    assert_eq!(sdp.choose_video().unwrap().payload_type, 96);
    assert!(sdp.media[2].is_backchannel);
}

#[test]
fn row51_everything_marked_as_backchannel_means_nothing() {
    let sdp = parsed("v=0\na=sendonly\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n");
    assert!(sdp.media[0].is_backchannel);
    assert_eq!(sdp.choose_video().unwrap().payload_type, 96);
}

#[test]
fn row49_broken_lines_around_the_ones_that_matter() {
    let body = b"s=first\ns=\xff\xfe second\nc=broken\nt=now\nno equals sign\n\
        m=application/TP-LINK 0 RTP/AVP smart/1/90000\na=rtpmap:95 TP-LINK/90000\na=control:track3\n\
        m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=control:track1\nm=\nm=video\n";
    let sdp = parse(body).unwrap();
    assert_eq!(sdp.media[0].kind, MediaKind::Other);
    assert_eq!(sdp.choose_video().unwrap().control.as_deref(), Some("track1"));
}

#[test]
fn row50_blanks_empty_and_misplaced_attributes() {
    let sdp = parsed(
        "v=0\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000 \na=fmtp:96\na=fmtp:96 \n\
         m=audio 0 RTP/AVP 0\na=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z00AKp2o,aO48gA==; \n",
    );
    let video = sdp.choose_video().unwrap();
    assert_eq!((video.codec, video.clock_rate.get()), (Some(Codec::H264), 90_000));
    assert_eq!(video.parameter_sets.len(), 2);
}

#[test]
fn row52_parameter_sets_missing_invalid_or_with_start_codes() {
    let sets = |value: &str| {
        let body = format!(
            "v=0\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 sprop-parameter-sets={value}\n"
        );
        parsed(&body).media[0].parameter_sets.clone()
    };
    let (sps, pps) = (vec![0x67, 0x4d, 0], vec![0x68, 0xee]);
    assert_eq!(sets("Z00A,aO4="), [sps.clone(), pps.clone()]);
    assert_eq!(sets("Z00A,aO4"), [sps.clone(), pps.clone()], "no padding");
    assert_eq!(sets("AAAAAWdNAA==,AAABaO4="), [sps.clone(), pps.clone()], "Annex B");
    assert_eq!(sets("!!!!,aO4="), [[0x68, 0xee]]);
    assert_eq!(sets("ZU0A,,=,aO4="), [pps], "an IDR slice is no parameter set");
    assert_eq!(sets(""), [[0; 0]; 0]);
    let huge = BASE64_STANDARD.encode([&[0x67][..], &[1; 1900]].concat());
    assert_eq!(sets(&[huge.as_str(); 100].join(",")).len(), 2, "bounded in sum");
    assert_eq!(sets(&BASE64_STANDARD.encode([0x67; 5000])), [[0; 0]; 0], "bounded each");
}

#[test]
fn row54_h265_with_a_part_of_the_parameter_sets() {
    let sdp = parsed(
        "v=0\nm=video 0 RTP/AVP 98\na=rtpmap:98 hevc/90000\n\
         a=fmtp:98 sprop-pps=RAHA8vA=; sprop-vps=QAEMAf//; sprop-max-don-diff=2\n",
    );
    let video = sdp.choose_video().unwrap();
    assert_eq!((video.codec, video.max_don_diff), (Some(Codec::H265), 2));
    let types: Vec<u8> = video.parameter_sets.iter().map(|set| set[0] >> 1 & 0x3f).collect();
    assert_eq!(types, [32, 34], "VPS before PPS, whatever the order in the text");
}

#[test]
fn row6_of_attacks_zero_and_absurd_clock_rates() {
    for rate in ["/0", "", "/", "/-1", "/abc", "/99999999999"] {
        let sdp = parsed(&format!("v=0\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264{rate}\n"));
        assert_eq!(sdp.media[0].clock_rate.get(), 90_000, "{rate}");
    }
}

#[test]
fn several_formats_in_one_section() {
    let sdp = parsed("v=0\nm=video 0 RTP/AVP 26 97 96\na=rtpmap:96 H265/90000\na=rtpmap:97 VP8/90000\n");
    assert_eq!(sdp.choose_video().unwrap().payload_type, 96);
}

#[test]
fn what_is_wrong_is_told_apart() {
    assert_eq!(parse(b" \r\n"), Err(SdpError::Empty));
    assert_eq!(parse(b"<html>a=b</html>"), Err(SdpError::NotSdp));
    assert_eq!(parsed("v=0\nm=audio 0 RTP/AVP 0\n").choose_video(), Err(NoVideo::NoSection));
    let other = |body: &str| match parsed(body).choose_video() {
        Err(NoVideo::OtherCodec { encoding }) => encoding,
        unexpected => panic!("{unexpected:?}"),
    };
    assert_eq!(other("v=0\nm=video 0 RTP/AVP 26\n"), "JPEG");
    assert_eq!(other("v=0\nm=video 0 RTP/AVP 96\na=rtpmap:96 MP4V-ES/90000\n"), "MP4V-ES");
    assert_eq!(other("v=0\nm=video 0 RTP/AVP 99\n"), "payload type 99");
    assert_eq!(other("v=0\nm=video 0 RTP/AVP\n"), "unknown");
}

#[test]
fn debug_prints_no_password_of_a_control() {
    let sdp = parsed(
        "v=0\na=control:rtsp://u:canary@cam/x\nm=video 0 RTP/AVP 96\n\
         a=control:rtsp://cam/user=canary_password=canary_channel=1/t1\n",
    );
    assert!(!format!("{sdp:?}").contains("canary"), "{sdp:?}");
}

#[test]
fn sections_and_formats_are_limited() {
    let many = format!("v=0\n{}", "m=audio 0 RTP/AVP 0\na=control:x\n".repeat(100_000));
    assert_eq!(parsed(&many).media.len(), SDP_MEDIA_MAX);
    let last = format!("{many}m=video 0 RTP/AVP 96\na=control:evil\n");
    assert_eq!(parsed(&last).media[SDP_MEDIA_MAX - 1].control.as_deref(), Some("x"));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&body);
    }

    #[test]
    fn any_change_to_a_description_is_read_without_panic(at in 0..USUAL.len(), byte in any::<u8>(), cut in 0..USUAL.len()) {
        let mut body = USUAL.as_bytes().to_vec();
        body[at] = byte;
        body.truncate(cut.max(1));
        if let Ok(sdp) = parse(&body) {
            let _ = sdp.choose_video();
        }
    }
}

fn parsed(body: &str) -> SessionDescription {
    parse(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
}
