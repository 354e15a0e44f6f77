use proptest::collection::vec;
use proptest::prelude::*;
use ring_abi::layout::Codec;

use super::*;

const SPS: &[u8] = &[0, 0, 0, 1, 0x67, 0x42, 0x00, 0x0a, 0xf8, 0x41, 0xa2];
const PPS: &[u8] = &[0, 0, 0, 1, 0x68, 0xce, 0x38, 0x80];
const EPOCH: u64 = 77;
const MS: i64 = 1_000_000;

fn header(cues_max: usize) -> Header {
    let sets = [SPS, PPS].concat();
    let track = VideoTrack { codec: Codec::H264, parameter_sets: &sets, width: 320, height: 180 };
    Header::new(track, 5, "yard", 1_700_000_000_000_000_000)
        .unwrap()
        .tag("STREAM_ID", "yard")
        .cues_max(cues_max)
}

/// What a test does with a muxer.
#[derive(Clone, Debug)]
enum Step {
    /// Length of the unit, and how long after the one before it is shown, ms.
    Unit {
        len: usize,
        is_key: bool,
        after_ms: i64,
    },
    Checkpoint,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let unit = (1_usize..3000, prop::bool::weighted(0.2), -100_i64..3000)
        .prop_map(|(len, is_key, after_ms)| Step::Unit { len, is_key, after_ms });
    vec(prop_oneof![5 => unit, 1 => Just(Step::Checkpoint)], 1..60)
}

/// A file and where its checkpoints end, with the units that are in front of each.
struct Written {
    bytes: Vec<u8>,
    checkpoints: Vec<(usize, u64)>,
    finished: Finished,
}

fn write(steps: &[Step], cues_max: usize) -> Written {
    let mut bytes = Vec::new();
    let mut muxer = Muxer::begin(&header(cues_max), EPOCH, 0, &mut bytes);
    let (mut seq, mut pts_ns) = (0, 0);
    let mut checkpoints = Vec::new();
    for step in steps {
        match *step {
            Step::Unit { len, is_key, after_ms } => {
                seq += 1;
                pts_ns += after_ms * MS;
                let payload = [&[0, 0, 0, 1][..], &vec![0x65; len]].concat();
                let nal_ends = [u32::try_from(payload.len()).unwrap()];
                muxer.unit(
                    &Frame {
                        payload: Payload::AnnexB { bytes: &payload, nal_ends: &nal_ends },
                        pts_ns,
                        is_key,
                        is_disposable: false,
                        seq,
                    },
                    &mut bytes,
                );
            }
            Step::Checkpoint => {
                muxer.checkpoint(&mut bytes);
                checkpoints.push((bytes.len(), seq));
            }
        }
        assert_eq!(muxer.position(), bytes.len() as u64);
    }
    let finished = muxer.finish(&mut bytes);
    if checkpoints.last().is_none_or(|(len, _)| *len != bytes.len()) && seq > 0 {
        checkpoints.push((bytes.len(), seq));
    }
    Written { bytes, checkpoints, finished }
}

proptest! {
    /// What a scan of a whole file finds is what the muxer knew.
    #[test]
    fn a_scan_finds_what_was_written(steps in steps(), cues_max in 1_usize..40) {
        let written = write(&steps, cues_max);
        let recovered = scan(&mut &*written.bytes).unwrap();
        prop_assert_eq!(recovered.finished, written.finished);
    }

    /// A file that ends anywhere is good up to its last checkpoint, whatever the header already says of the end.
    #[test]
    fn a_file_cut_anywhere_is_good_up_to_its_last_checkpoint(
        steps in steps(), cut in 0.0..1.0, is_header_finished: bool
    ) {
        let mut written = write(&steps, 8);
        if is_header_finished {
            let header = &written.finished.header;
            written.bytes[..header.len()].copy_from_slice(header);
        }
        let header_len = written.finished.header.len();
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a place in a short file")]
        let len = header_len + ((written.bytes.len() - header_len) as f64 * cut) as usize;
        let recovered = scan(&mut &written.bytes[..len]).unwrap();
        let last = written.checkpoints.iter().rev().find(|(end, _)| *end <= len);
        prop_assert_eq!(recovered.finished.len, last.map_or(header_len, |(end, _)| *end) as u64);
        prop_assert_eq!(recovered.finished.units, last.map_or(0, |(_, units)| *units));
        prop_assert_eq!(recovered.last, last.map(|(_, seq)| (EPOCH, *seq)));
    }

    /// A byte that is not what was written is found, and nothing behind it is taken for good.
    #[test]
    fn a_torn_byte_is_not_passed(steps in steps(), at: prop::sample::Index, flip in 1_u8..) {
        let mut written = write(&steps, 8);
        let header_len = written.finished.header.len();
        prop_assume!(written.bytes.len() > header_len);
        let at = header_len + at.index(written.bytes.len() - header_len);
        written.bytes[at] ^= flip;
        let recovered = scan(&mut &*written.bytes).unwrap();
        let good = written.checkpoints.iter().rev().find(|(end, _)| *end <= at).map_or(header_len, |(end, _)| *end);
        let whole = written.bytes.len();
        let found = usize::try_from(recovered.finished.len).unwrap();
        // Padding behind a checkpoint's content is nobody's.
        let is_padding = written.checkpoints.iter().any(|(end, _)| at < *end && written.bytes[at..*end].iter().skip(1).all(|b| *b == 0));
        prop_assert!(found == good || is_padding && found == whole, "{found}, not {good}");
    }

    /// No bytes make a scan panic, or take memory without bound.
    #[test]
    fn any_bytes_can_be_scanned(steps in steps(), tail in vec(any::<u8>(), 0..200), keep: prop::sample::Index) {
        let _ = scan(&mut &*tail);
        let written = write(&steps, 8);
        let mut bytes = written.bytes[..keep.index(written.bytes.len())].to_vec();
        bytes.extend(tail);
        let _ = scan(&mut &*bytes);
    }
}

#[test]
fn a_header_torn_between_its_two_states_is_either_of_them() {
    let steps: Vec<Step> = (0..100)
        .map(|n| {
            if n % 10 == 9 {
                Step::Checkpoint
            } else {
                Step::Unit { len: 500, is_key: n % 20 == 0, after_ms: 40 }
            }
        })
        .collect();
    let written = write(&steps, 128);
    let header = &written.finished.header;
    assert_eq!(header.len() % ALIGN, 0);
    let sectors = header.len() / 512;
    for pattern in 0..1_u32 << sectors.min(9) {
        let mut torn = written.bytes.clone();
        for sector in (0..sectors).filter(|sector| pattern >> (sector % 9) & 1 == 1) {
            let range = sector * 512..(sector + 1) * 512;
            torn[range.clone()].copy_from_slice(&header[range]);
        }
        assert_eq!(scan(&mut &*torn).unwrap().finished, written.finished, "{pattern:b}");
    }
}

#[test]
fn a_header_without_its_codec_private_is_none() {
    let written = write(&[Step::Unit { len: 10, is_key: true, after_ms: 0 }], 4);
    // The note is behind the tags; everything in front of it is checked but for what changes at the end.
    let note = memchr::memmem::find(&written.bytes, b"VMSHEAD1").unwrap();
    let private = memchr::memmem::find(&written.bytes, &SPS[4..]).unwrap();
    assert!(private < note);
    let mut torn = written.bytes.clone();
    torn[private..private + 4].fill(0);
    assert!(matches!(scan(&mut &*torn), Err(ScanError::Header)));
    assert!(matches!(scan(&mut &written.bytes[..note]), Err(ScanError::Header)));
    assert!(matches!(scan(&mut &[0_u8; 5000][..]), Err(ScanError::Header)));
}

#[test]
fn units_are_written_with_lengths_where_start_codes_were() {
    let mut bytes = Vec::new();
    let mut muxer = Muxer::begin(&header(4), EPOCH, 1000 * MS, &mut bytes);
    let begin = bytes.len();
    let payload = [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x65, 2, 3];
    let frame = Frame {
        payload: Payload::AnnexB { bytes: &payload, nal_ends: &[6, 13] },
        pts_ns: 1000 * MS,
        is_key: true,
        is_disposable: false,
        seq: 1,
    };
    muxer.unit(&frame, &mut bytes);
    // Without an index the same is found by looking.
    muxer.unit(
        &Frame {
            payload: Payload::AnnexB { bytes: &payload, nal_ends: &[] },
            pts_ns: 1040 * MS,
            is_key: false,
            is_disposable: true,
            ..frame
        },
        &mut bytes,
    );
    let block = |offset: [u8; 2], flags| {
        let mut block = vec![0xA3, 0x80 | 17, 0x81, offset[0], offset[1], flags];
        block.extend([0, 0, 0, 2, 0x67, 1, 0, 0, 0, 3, 0x65, 2, 3]);
        block
    };
    let cluster = [&[0x1F, 0x43, 0xB6, 0x75, 1][..], &[0xFF; 7], &[0xE7, 0x81, 0]].concat();
    // 40 ms are 400 ticks.
    assert_eq!(bytes[begin..], [cluster, block([0, 0], 0x80), block([1, 144], 1)].concat());
}

#[test]
fn timestamps_before_the_begin_are_at_the_begin() {
    let mut bytes = Vec::new();
    let mut muxer = Muxer::begin(&header(4), EPOCH, 1000 * MS, &mut bytes);
    let payload = [0, 0, 0, 1, 0x65];
    for (pts_ns, is_key) in [(1000 * MS, true), (960 * MS, false), (i64::MIN, false), (1040 * MS, false)] {
        let frame = Frame {
            payload: Payload::AnnexB { bytes: &payload, nal_ends: &[5] },
            pts_ns,
            is_key,
            is_disposable: false,
            seq: 1,
        };
        muxer.unit(&frame, &mut bytes);
    }
    let finished = muxer.finish(&mut bytes);
    assert_eq!(finished.units, 4);
    assert!((1040 * MS..1100 * MS).contains(&(finished.duration_ns + 1000 * MS)), "{}", finished.duration_ns);
}
