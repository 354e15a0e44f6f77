//! Streams that cameras send, whole and split at every byte.

use proptest::prelude::*;

use super::*;
use crate::limits::{RTSP_BODY_LEN_MAX, RTSP_HEAD_LEN_MAX, RTSP_HEADERS_MAX};

#[test]
fn frames_and_messages_follow_each_other() {
    let stream = [
        &b"RTSP/1.0 200 OK\r\nCSeq: 4\r\nContent-Length: 5\r\n\r\nhello"[..],
        &frame(0, &rtp(1, 20)),
        b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n",
        &frame(1, b"\x80\xc8\x00\x01\x00\x00\x00\x07"),
    ]
    .concat();
    let seen = all_splits(&stream);
    assert_eq!(seen, ["response 200 5", &data(0, 20), "request OPTIONS", &data(1, 8)]);
}

#[test]
fn row1_garbage_between_frames_costs_no_frame() {
    for garbage in [&b"xyz"[..], b"\xff\x24\x01", b"$$$", b"R", b"RTS", b"PLAX", b"$\x07\x00\x08\x12"] {
        let stream =
            [&frame(0, &rtp(1, 40))[..], garbage, &frame(0, &rtp(2, 40)), &frame(0, &rtp(3, 30))].concat();
        let seen = all_splits(&stream);
        let expected = [data(0, 40), format!("skipped {}", garbage.len()), data(0, 40), data(0, 30)];
        assert_eq!(seen, expected, "{garbage:?}");
    }
}

#[test]
fn row1_garbage_after_every_frame_never_ends_the_connection() {
    let block = [&frame(0, &rtp(1, 20))[..], &[b'x'; 1000]].concat();
    let mut framer = agreed();
    for _ in 0..2 * RTSP_RESYNC_LEN_MAX / 1000 {
        let mut input = &block[..];
        while framer.next(&mut input).unwrap().is_some() {}
    }
}

#[test]
fn row2_a_frame_cut_short_costs_its_neighbour_only() {
    let mut cut = frame(0, &rtp(1, 400));
    cut.truncate(300);
    let stream = [&cut[..], &frame(0, &rtp(2, 400)), &frame(0, &rtp(3, 50)), &frame(0, &rtp(4, 60))].concat();
    // The first frame eats 104 bytes of the second, whose remains are skipped.
    assert_eq!(all_splits(&stream), [data(0, 400), "skipped 300".into(), data(0, 50), data(0, 60)]);
}

#[test]
fn row3_dollars_in_skipped_payload_are_not_believed() {
    let mut payload = vec![0xee; 300];
    for (at, false_start) in [
        (10, &b"$\x00\x01\x00\x00\x60"[..]),
        (40, b"$\x05\x01\x00\x80\x60"),
        (80, b"$\x00\x01\x00\x80\x7f"),
        (120, b"$$"),
    ] {
        payload[at..at + false_start.len()].copy_from_slice(false_start);
    }
    let stream = [&payload[..], &frame(0, &rtp(1, 20))].concat();
    assert_eq!(all_splits(&stream), ["skipped 300".into(), data(0, 20)]);
}

#[test]
fn row3_packets_of_another_source_amid_garbage_are_believed_when_the_next_header_follows() {
    let stranger = frame(0, &rtp_of(7, 40));
    let garbage = b"garbage";
    for next in [
        &frame(0, &rtp_of(7, 30))[..],
        &frame(0, &rtp(1, 30)),
        &frame(1, b"\x80\xc8\x00\x01\x00\x00\x00\x07"),
        &frame(9, &rtp(1, 30)),
    ] {
        let stream = [&garbage[..], &stranger, next].concat();
        let seen = all_splits_from(known, &stream);
        let expected = ["skipped 7".into(), data(0, 40), data(next[1], next.len() - 4)];
        assert_eq!(seen, expected, "{next:?}");
    }
    let stream = [&garbage[..], &stranger, b"OPTIONS * RTSP/1.0\r\n\r\n"].concat();
    assert_eq!(all_splits_from(known, &stream), ["skipped 7", &data(0, 40), "request OPTIONS"]);
    let more_garbage = [&garbage[..], &stranger, b"R$", &stranger].concat();
    let expected = ["skipped 7".into(), data(0, 40), "skipped 2".into(), data(0, 40)];
    assert_eq!(all_splits_from(known, &more_garbage), expected);
}

#[test]
fn row3_what_looks_like_a_packet_of_another_source_costs_none() {
    let ours = [frame(0, &rtp(1, 20)), frame(0, &rtp(2, 30))].concat();
    // As long as a frame can be; shorter than the garbage; the same twice, one within the other; and two of two sources.
    let long = b"$\x00\xff\xff\x80\x60\x00\x01\x00\x00\x00\x02\x01\x02\x03\x04";
    let short = [&frame(0, &rtp_of(7, 20))[..], b"more"].concat();
    let nested = [&long[..], long].concat();
    let two = [frame(0, &rtp_of(7, 20)), b"x".to_vec(), frame(0, &rtp_of(8, 20)), b"x".to_vec()].concat();
    for garbage in [&long[..], &short, &nested, &two] {
        let stream = [&b"garbage"[..], garbage, &ours].concat();
        let expected = [format!("skipped {}", 7 + garbage.len()), data(0, 20), data(0, 30)];
        assert_eq!(all_splits_from(known, &stream), expected, "{garbage:?}");
    }
}

#[test]
fn row2_the_rest_of_a_cut_frame_may_end_before_what_looks_like_one_of_another_channel() {
    let mut payload = rtp(2, 400);
    payload[200..205].copy_from_slice(b"$\x99\x36\x26\xb2");
    let mut cut = frame(0, &rtp(1, 400));
    cut.truncate(200);
    let stream = [
        &cut[..],
        &frame(0, &payload),
        &frame(0, &rtp(3, 50)),
        &frame(9, &rtp(4, 60)),
        &frame(0, &rtp(5, 70)),
    ];
    // The first frame ends before the dollar of the second, and where nothing was cut, other channels come through.
    let expected = [data(0, 400), "skipped 200".into(), data(0, 50), data(9, 60), data(0, 70)];
    assert_eq!(all_splits_from(known, &stream.concat()), expected);
}

#[test]
fn a_stranger_ends_with_the_search() {
    let mut framer = known();
    let stream = [&b"garbage"[..], &frame(0, &rtp_of(7, 40))].concat();
    let mut input = &stream[..];
    assert_eq!(framer.next(&mut input), Ok(Some(Event::Skipped { bytes: 7 })));
    assert_eq!(framer.next(&mut input), Ok(None));
    assert!(framer.stranger.is_some());
    // A byte after it, and then a packet of the source that was sending.
    let stream = [&b"x"[..], &frame(0, &rtp(1, 20))].concat();
    let mut input = &stream[..];
    assert_eq!(framer.next(&mut input), Ok(Some(Event::Skipped { bytes: 45 })));
    assert!(matches!(framer.next(&mut input), Ok(Some(Event::DataStart { len: 20, .. }))));
    assert!(framer.stranger.is_none());
}

#[test]
fn row4_blank_lines_and_zeros_between_frames_are_nothing() {
    let stream = [
        &b"\r\n\0"[..],
        &frame(0, &rtp(1, 20)),
        b"\r\n",
        &frame(0, &rtp(2, 20)),
        b"\n\n",
        b"RTSP/1.0 200 OK\r\n\r\n",
        b"\r\n\0\0\0\0",
        &frame(1, b"\x80\xc9\x00\x00"),
    ]
    .concat();
    assert_eq!(all_splits(&stream), [data(0, 20), data(0, 20), "response 200 0".into(), data(1, 4)]);
}

#[test]
fn row5_a_response_between_frames() {
    let stream =
        [&frame(0, &rtp(1, 20))[..], b"RTSP/1.0 200 OK\nCSeq: 5\n\n", &frame(0, &rtp(2, 20))].concat();
    assert_eq!(all_splits(&stream), [data(0, 20), "response 200 0".into(), data(0, 20)]);
}

#[test]
fn row7_and_8_data_on_channels_that_nobody_set_up_comes_through() {
    let stream = [&frame(6, &rtp(1, 20))[..], &frame(0, &rtp(2, 20))].concat();
    assert_eq!(all_splits(&stream), [data(6, 20), data(0, 20)]);
    let before_setup = collect(Framer::new(), &[&stream]).unwrap();
    assert_eq!(before_setup, [data(6, 20), data(0, 20)]);
}

#[test]
fn row11_a_frame_of_65535_bytes() {
    let big = frame(0, &rtp(1, 65_535));
    assert_eq!(collect(agreed(), &[&big]).unwrap(), [data(0, 65_535)]);
}

#[test]
fn row13_empty_and_tiny_frames() {
    let stream = [&frame(0, b"")[..], &frame(0, b"\x80"), &frame(9, b""), &frame(0, &rtp(1, 12))].concat();
    assert_eq!(all_splits(&stream), [data(0, 0), data(0, 1), data(9, 0), data(0, 12)]);
}

#[test]
fn row14_answers_that_are_hardly_rtsp() {
    let stream = b"RTSP/1.0 0\nCSeq : 1\n\nRTSP/1.1 404\r\nContent-Length : 2\r\n\r\nab";
    assert_eq!(all_splits(stream), ["response 0 0", "response 404 2"]);
}

#[test]
fn payload_is_the_callers_memory() {
    let bytes = frame(0, &rtp(1, 100));
    let mut framer = agreed();
    let mut input = &bytes[..];
    let Ok(Some(Event::Frame { channel: 0, payload })) = framer.next(&mut input) else { panic!("no frame") };
    assert_eq!((payload.as_ptr(), payload.len()), (bytes[4..].as_ptr(), 100));
    let mut input = &bytes[..50];
    assert_eq!(framer.next(&mut input), Ok(Some(Event::DataStart { channel: 0, len: 100 })));
    let Ok(Some(Event::Data(data))) = framer.next(&mut input) else { panic!("no data") };
    assert_eq!((data.as_ptr(), data.len()), (bytes[4..].as_ptr(), 46));
}

#[test]
fn heads_and_bodies_are_limited() {
    let fails = |text: &str| collect(agreed(), &[text.as_bytes()]).unwrap_err();
    let endless_line = format!("RTSP/1.0 200 OK\r\nX: {}", "x".repeat(RTSP_HEAD_LEN_MAX));
    assert_eq!(fails(&endless_line), FramerError::HeadTooLong { limit: RTSP_HEAD_LEN_MAX });
    let many_lines = format!("RTSP/1.0 200 OK\r\n{}", "A: b\r\n".repeat(RTSP_HEADERS_MAX + 1));
    assert_eq!(fails(&many_lines), FramerError::TooManyHeaders { limit: RTSP_HEADERS_MAX });
    let enough_lines = format!("RTSP/1.0 200 OK\r\n{}\r\n", "A: b\r\n".repeat(RTSP_HEADERS_MAX));
    assert_eq!(collect(agreed(), &[enough_lines.as_bytes()]).unwrap(), ["response 200 0"]);

    let announced = |len: &str| fails(&format!("RTSP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\n"));
    assert_eq!(announced("-1"), FramerError::BadContentLength { value: "-1".into() });
    assert_eq!(announced("12abc"), FramerError::BadContentLength { value: "12abc".into() });
    let limit = RTSP_BODY_LEN_MAX;
    assert_eq!(announced("262145"), FramerError::BodyTooLong { len: 262_145, limit });
    assert_eq!(announced("99999999999999999999999"), FramerError::BodyTooLong { len: u64::MAX, limit });
}

#[test]
fn garbage_ends_after_a_megabyte() {
    let block = vec![b'x'; 64 * 1024];
    let mut framer = agreed();
    let error = (0..1000).find_map(|_| {
        let mut input = &block[..];
        loop {
            match framer.next(&mut input) {
                Ok(None) => break None,
                Ok(Some(_)) => {}
                Err(error) => break Some(error),
            }
        }
    });
    assert!(matches!(error, Some(FramerError::OutOfStep { skipped }) if skipped == RTSP_RESYNC_LEN_MAX + 1));
}

#[test]
fn a_word_that_is_no_message_is_skipped_and_the_search_goes_on() {
    let stream = [&b"RTSP/nonsense\r\nmore\r\n"[..], &frame(0, &rtp(1, 20))].concat();
    assert_eq!(all_splits(&stream), ["skipped 21".into(), data(0, 20)]);
}

#[test]
fn no_memory_is_kept_for_text_that_has_ended() {
    let mut framer = agreed();
    let mut input = &b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc"[..];
    assert!(matches!(framer.next(&mut input), Ok(Some(Event::Response(_)))));
    assert_eq!(framer.text.capacity(), 0);
}

proptest! {
    /// Any bytes in any split: no panic, the same events, and every byte is accounted for.
    #[test]
    fn any_bytes_in_any_split(
        stream in noise(),
        cuts in prop::collection::vec(1usize..40, 1..20),
        is_known in any::<bool>(),
    ) {
        let framer = || if is_known { known() } else { agreed() };
        let whole = collect(framer(), &[&stream]);
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() { break }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(whole, collect(framer(), &pieces));
    }
}

/// Pieces of real traffic with noise in between, the stuff in which a framer could lose its way.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60),
        Just(b"$".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"RTSP/1.0 200 OK\r\nContent-Length: 4\r\n\r\n".to_vec()),
        Just(b"OPTIONS * RTSP/1.0\n\n".to_vec()),
        (0u8..4, 0usize..80).prop_map(|(channel, len)| frame(channel, &rtp(1, len))),
        (0u8..2, 8u8..10, 12usize..80)
            .prop_map(|(channel, source, len)| frame(channel, &rtp_of(source, len))),
        (0u8..4, 0usize..80, 0usize..40).prop_map(|(channel, len, cut)| {
            let mut bytes = frame(channel, &rtp(1, len));
            bytes.truncate(bytes.len().saturating_sub(cut));
            bytes
        }),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

#[test]
fn what_comes_behind_an_error_does_not_depend_on_the_portions_before() {
    let answer = b"RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n";
    for broken in [
        format!("RTSP/1.0 200 OK\r\nX: {}", "x".repeat(70_000)),
        format!("RTSP/1.0 200 OK\r\n{}", "A: b\r\n".repeat(RTSP_HEADERS_MAX + 1)),
        "RTSP/1.0 200 OK\r\nContent-Length: x\r\n\r\n".to_owned(),
        "x".repeat(RTSP_RESYNC_LEN_MAX + 1),
    ] {
        for portion in [100, 5000, usize::MAX] {
            let mut framer = agreed();
            let mut portions = broken.as_bytes().chunks(portion);
            let fails = |mut input: &[u8]| loop {
                match framer.next(&mut input) {
                    Ok(None) => return false,
                    Ok(Some(_)) => {}
                    Err(_) => return true,
                }
            };
            assert!(portions.any(fails), "{portion}");
            let events = collect(framer, &[&frame(0, &rtp(1, 20)), answer]).unwrap();
            assert_eq!(events, [data(0, 20), "response 200 0".into()], "{portion}");
        }
    }
}

fn agreed() -> Framer {
    let mut framer = Framer::new();
    framer.set_channels(0, Some(1));
    framer.set_payload_type(96);
    framer
}

/// A framer to which packets as [`rtp`] makes them have come.
fn known() -> Framer {
    let mut framer = agreed();
    framer.set_source(Some(0xabab_abab));
    framer
}

fn frame(channel: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[b'$', channel, len[0], len[1]], payload].concat()
}

fn rtp(sequence: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, sequence];
    packet.resize(len, 0xab);
    packet
}

/// A packet of another source.
fn rtp_of(source: u8, len: usize) -> Vec<u8> {
    let mut packet = rtp(1, len);
    packet[8..12].fill(source);
    packet
}

fn data(channel: u8, len: usize) -> String {
    format!("data {channel} {len}")
}

/// What the stream gives, the same for whole input, for single bytes and for every split in two.
fn all_splits(stream: &[u8]) -> Vec<String> {
    all_splits_from(agreed, stream)
}

fn all_splits_from(framer: impl Fn() -> Framer, stream: &[u8]) -> Vec<String> {
    let whole = collect(framer(), &[stream]).unwrap();
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(collect(framer(), &bytes).unwrap(), whole, "byte by byte");
    for at in 0..=stream.len() {
        let (front, back) = stream.split_at(at);
        assert_eq!(collect(framer(), &[front, back]).unwrap(), whole, "split at {at}");
    }
    whole
}

/// Runs the pieces through and tells each frame and each skipped run in one line. Checks that the payload is
/// what `rtp` made, that its length is as announced, and that `None` leaves no input.
fn collect(mut framer: Framer, pieces: &[&[u8]]) -> Result<Vec<String>, FramerError> {
    let mut seen: Vec<String> = Vec::new();
    let mut frame = None;
    let mut skipped = 0;
    for piece in pieces {
        let mut input = *piece;
        while let Some(event) = framer.next(&mut input)? {
            if !matches!(event, Event::Skipped { .. }) && skipped > 0 {
                seen.push(format!("skipped {}", std::mem::take(&mut skipped)));
            }
            match event {
                Event::Response(response) => {
                    seen.push(format!("response {} {}", response.status, response.body.len()))
                }
                Event::Request(request) => seen.push(format!("request {}", request.method)),
                Event::Frame { channel, payload } => {
                    assert_eq!(frame, None);
                    seen.push(data(channel, payload.len()));
                }
                Event::Found { channel, payload } => {
                    assert_eq!(frame, None);
                    seen.push(data(channel, payload.len()));
                }
                Event::DataStart { channel, len } => {
                    assert_eq!(frame.replace((channel, usize::from(len), 0)), None);
                }
                Event::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    frame.as_mut().unwrap().2 += bytes.len();
                }
                Event::DataEnd => {
                    let (channel, announced, came) = frame.take().unwrap();
                    assert_eq!(announced, came);
                    seen.push(data(channel, came));
                }
                Event::Skipped { bytes } => skipped += bytes,
            }
        }
        assert!(input.is_empty(), "None leaves no input");
    }
    if skipped > 0 {
        seen.push(format!("skipped {skipped}"));
    }
    Ok(seen)
}
