//! Session descriptions (RFC 8866) of the clips, with the parameters of RFC 6184 8.1 and RFC 7798 7.1.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use vms_stamp::Codec;

use crate::config::CLOCK_RATE;
use crate::media::Media;
use crate::nal;

/// RTP payload type of the video.
pub(crate) const PAYLOAD_TYPE: u8 = 96;
/// Last path segment of the video track's URL.
pub(crate) const TRACK: &str = "trackID=0";

/// The description of `media`.
pub(crate) fn describe(media: &Media) -> String {
    let (name, format) = match media.codec {
        Codec::H264 => ("H264", h264_format(&media.parameter_sets)),
        Codec::H265 => ("H265", h265_format(&media.parameter_sets)),
    };
    let rate = f64::from(media.fps.numerator.get()) / f64::from(media.fps.denominator.get());
    format!(
        "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=vms-camsim\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=range:npt=0-\r\n\
         a=control:*\r\nm=video 0 RTP/AVP {PAYLOAD_TYPE}\r\na=rtpmap:{PAYLOAD_TYPE} {name}/{CLOCK_RATE}\r\n{format}\
         a=framerate:{rate}\r\na=control:{TRACK}\r\n"
    )
}

fn h264_format(parameter_sets: &[Vec<u8>]) -> String {
    let sets: Vec<String> = parameter_sets.iter().map(|set| BASE64.encode(set)).collect();
    // `profile-level-id` is the three bytes behind the NAL header of the SPS.
    let sps = parameter_sets.iter().find(|set| set.first().is_some_and(|byte| byte & 0x1f == 7));
    let profile: String = sps
        .and_then(|sps| sps.get(1..4))
        .unwrap_or_default()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    format!(
        "a=fmtp:{PAYLOAD_TYPE} packetization-mode=1;profile-level-id={profile};sprop-parameter-sets={}\r\n",
        sets.join(",")
    )
}

fn h265_format(parameter_sets: &[Vec<u8>]) -> String {
    let sets = |nal_type: u8| {
        let of_type = parameter_sets.iter().filter(|set| nal::h265_type(set) == Some(nal_type));
        of_type.map(|set| BASE64.encode(set)).collect::<Vec<_>>().join(",")
    };
    format!("a=fmtp:{PAYLOAD_TYPE} sprop-vps={};sprop-sps={};sprop-pps={}\r\n", sets(32), sets(33), sets(34))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Fps;

    fn media(codec: Codec, parameter_sets: &[&[u8]]) -> Media {
        let parameter_sets = parameter_sets.iter().map(|set| set.to_vec()).collect();
        Media { codec, fps: Fps::default(), units: Vec::new(), parameter_sets }
    }

    #[test]
    fn h264() {
        let text = describe(&media(Codec::H264, &[&[0x67, 0x4d, 0x40, 0x1e], &[0x68, 0xee]]));
        assert!(text.contains("a=rtpmap:96 H264/90000\r\n"));
        let format =
            "a=fmtp:96 packetization-mode=1;profile-level-id=4D401E;sprop-parameter-sets=Z01AHg==,aO4=\r\n";
        assert!(text.contains(format), "{text}");
    }

    #[test]
    fn h265() {
        let text = describe(&media(Codec::H265, &[&[0x40, 1], &[0x42, 1], &[0x44, 1]]));
        assert!(text.contains("sprop-vps=QAE=;sprop-sps=QgE=;sprop-pps=RAE=\r\n"), "{text}");
    }
}
