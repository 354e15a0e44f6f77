//! NAL units in fragments of which the last is missing, or is not said to be the last.

use super::*;

#[test]
fn row73_a_nal_unit_without_its_last_fragment_is_damaged() {
    type Packets = &'static [(u32, bool, &'static [u8])];
    // Another NAL unit comes instead, or the start of one, or another timestamp, or nothing but the marker.
    let h264: [Packets; 4] = [
        &[(1, false, &[0x7c, 0x85, 0x88]), (1, false, &[0x7c, 0x05, 1]), (1, true, IDR)],
        &[(1, false, &[0x7c, 0x85, 0x88]), (1, false, &[0x7c, 0x85, 0x88]), (1, true, &[0x7c, 0x45, 1])],
        &[(1, false, &[0x7c, 0x85, 0x88]), (1, false, &[0x7c, 0x05, 1])],
        &[(1, false, &[0x7c, 0x85, 0x88]), (1, true, &[])],
    ];
    let h265: [Packets; 4] = [
        &[(1, false, &[98, 1, 0x93, 0x80]), (1, false, &[98, 1, 0x13, 1]), (1, true, &[38, 1, 0x80])],
        &[(1, false, &[98, 1, 0x93, 0x80]), (1, false, &[98, 1, 0x93, 0]), (1, true, &[98, 1, 0x53, 1])],
        &[(1, false, &[98, 1, 0x93, 0x80]), (1, false, &[98, 1, 0x13, 1])],
        &[(1, false, &[98, 1, 0x93, 0x80]), (1, true, &[])],
    ];
    for (codec, cases) in [(Codec::H264, h264), (Codec::H265, h265)] {
        let whole: Packets = match codec {
            Codec::H264 => &[(0, false, &[0x7c, 0x85, 0x88]), (0, true, &[0x7c, 0x45, 1])],
            Codec::H265 => &[(0, false, &[98, 1, 0x93, 0x80]), (0, true, &[98, 1, 0x53, 1])],
        };
        for (case, packets) in cases.into_iter().enumerate() {
            let mut camera = Camera::new(codec, false);
            for (timestamp, marker, payload) in whole.iter().chain(packets) {
                camera.send(*timestamp, *marker, payload);
            }
            whole.iter().for_each(|(_, marker, payload)| camera.send(2, *marker, payload));
            assert_eq!(camera.damaged(), [false, true, false], "{codec:?}, case {case}");
            assert_eq!(camera.stats().fragments_unended, 1, "{codec:?}, case {case}");
        }
    }
}

#[test]
fn last_fragments_that_are_not_always_marked_say_nothing() {
    let mut camera = Camera::h264();
    camera.send(0, false, &[0x7c, 0x85, 0x88]);
    camera.send(0, true, &[0x7c, 0x45, 1]);
    // webrtc-rs, where the last is as long as the others.
    camera.send(1, false, &[0x7c, 0x85, 0x88, 1]);
    camera.send(1, true, &[0x7c, 0x05, 2, 3]);
    camera.send(2, false, &[0x7c, 0x85, 0x88]);
    camera.send(2, false, &[0x7c, 0x05, 2]);
    camera.send(2, true, IDR);
    assert_eq!(camera.damaged(), [false; 3]);
    assert_eq!(camera.sink.nals()[1..], [vec![&[0x65, 0x88, 1, 2, 3][..]], vec![&[0x65, 0x88, 2], IDR]]);
}
