//! What real cameras did to real users, packet by packet.

mod fragments;
mod loss;

use super::*;
use crate::codec::UnitFlags;
use crate::codec::testing::{OwnedUnit, VecSink};
use crate::rtp::ClockSource;
use crate::time::{Mono, UnixNanos};

/// Baseline, level 3, 640x480.
const SPS: &[u8] = &[0x67, 0x42, 0x00, 0x1e, 0xda, 0x02, 0x80, 0xf4, 0x40];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];
const SEI: &[u8] = &[0x06, 5, 1, 9, 0x80];
const RECOVERY_POINT: &[u8] = &[0x06, 6, 1, 0xc4, 0x80];
const IDR: &[u8] = &[0x65, 0x88, 1, 2, 3];
const SLICE: &[u8] = &[0x41, 0x9a, 4, 5, 6];

#[test]
fn a_single_nal_unit_is_a_unit() {
    let mut camera = Camera::h264();
    camera.send(0, true, IDR);
    let unit = camera.only_unit();
    assert_eq!(unit.nals(), [IDR]);
    assert_eq!(unit.flags, UnitFlags::KEY.with(UnitFlags::DISCONT));
    assert_eq!((unit.config, unit.lost_packets), (None, 0));
}

#[test]
fn stap_a_is_taken_apart() {
    let mut camera = Camera::h264();
    let payload = stap(&[SPS, PPS, IDR]);
    camera.send(0, true, &payload);
    let unit = camera.only_unit();
    assert_eq!(unit.nals(), [SPS, PPS, IDR]);
    assert!(unit.flags.contains(UnitFlags::CONFIG_CHANGED));
    let sets = &camera.sink.configs[0];
    assert_eq!((sets.profile, sets.level, sets.width, sets.height), (0x42, 0x1e, 640, 480));
}

#[test]
fn fragments_are_joined_and_every_cut_gives_the_same() {
    let nal: Vec<u8> = [0x65, 0x88].into_iter().chain(0..98).collect();
    for first in 0..34 {
        for second in first..34 {
            let mut camera = Camera::h264();
            camera.cuts = vec![first, second];
            camera.send(0, false, &stap(&[SPS, PPS]));
            camera.send(0, false, &[&[0x7c, 0x85], &nal[1..34]].concat());
            camera.send(0, false, &[&[0x7c, 0x05], &nal[34..66]].concat());
            camera.send(0, true, &[&[0x7c, 0x45], &nal[66..]].concat());
            let unit = camera.only_unit();
            assert_eq!(unit.nals(), [SPS, PPS, &nal]);
            assert!(!unit.flags.contains(UnitFlags::DAMAGED));
            assert_eq!((unit.first_rtp_sequence, unit.last_rtp_sequence), (0, 3));
        }
    }
}

#[test]
fn without_markers_the_timestamp_ends_units() {
    let mut camera = Camera::h264();
    camera.send(0, false, IDR);
    camera.send(1, false, SLICE);
    camera.send(1, false, SLICE);
    camera.send(2, false, SLICE);
    assert_eq!(camera.sink.nals(), [vec![IDR], vec![SLICE, SLICE]]);
    camera.depacketizer.flush(&mut camera.sink);
    assert_eq!(camera.sink.units.len(), 3);
    assert!(camera.sink.units.iter().all(|unit| !unit.flags.contains(UnitFlags::DAMAGED)));
}

#[test]
fn a_unit_cut_off_before_its_marker_is_damaged() {
    let mut camera = Camera::h264();
    camera.send(0, true, IDR);
    camera.send(1, false, SLICE);
    camera.depacketizer.flush(&mut camera.sink);
    assert!(camera.sink.units[1].flags.contains(UnitFlags::DAMAGED));
}

#[test]
fn a_unit_cut_off_within_a_packet_is_damaged_though_no_markers_are_known() {
    // In the NAL unit, in its header, and before it.
    for taken in [3, 1, 0] {
        let mut camera = Camera::h264();
        camera.send(0, false, IDR);
        let packet = PacketInfo { payload_len: SLICE.len(), ..camera.packet(0, false) };
        camera.depacketizer.packet_begin(&packet, &mut camera.sink);
        camera.depacketizer.packet_bytes(&SLICE[..taken], &mut camera.sink);
        camera.depacketizer.flush(&mut camera.sink);
        assert_eq!(camera.damaged(), [true], "{taken} bytes");
    }
}

#[test]
fn a_marker_on_parameter_sets_does_not_end_the_unit() {
    // Tapo TC70, Reolink, LV-IP22.
    let mut camera = Camera::h264();
    for nal in [SPS, PPS, SEI, IDR] {
        camera.send(7, true, nal);
    }
    assert_eq!(camera.only_unit().nals(), [SPS, PPS, SEI, IDR]);
}

#[test]
fn parameter_sets_with_the_timestamp_before_go_to_the_next_slice() {
    // Reolink RLC-822A.
    let mut camera = Camera::h264();
    camera.send(1, true, SLICE);
    camera.send(1, false, SPS);
    camera.send(1, false, PPS);
    camera.send(2, true, IDR);
    assert_eq!(camera.sink.nals(), [vec![SLICE], vec![SPS, PPS, IDR]]);
    let unit = &camera.sink.units[1];
    assert_eq!((unit.rtp_timestamp, unit.media_ticks, unit.first_rtp_sequence), (2, 2, 1));
}

#[test]
fn two_units_may_have_one_timestamp() {
    let mut camera = Camera::h264();
    camera.send(1, true, SLICE);
    camera.send(1, true, SLICE);
    let aud: &[u8] = &[0x09, 0xf0];
    for nal in [aud, SLICE, aud, SLICE] {
        camera.send(2, false, nal);
    }
    camera.send(3, true, SLICE);
    assert_eq!(
        camera.sink.nals(),
        [vec![SLICE], vec![SLICE], vec![aud, SLICE], vec![aud, SLICE], vec![SLICE]]
    );
    let sequences: Vec<_> =
        camera.sink.units.iter().map(|unit| (unit.first_rtp_sequence, unit.last_rtp_sequence)).collect();
    assert_eq!(sequences[2..4], [(2, 4), (4, 5)]);
}

#[test]
fn slices_of_a_picture_stay_together() {
    let mut camera = Camera::h264();
    let nals: [&[u8]; 6] = [&[0x09, 0xf0], SPS, PPS, SEI, IDR, &[0x65, 0x01, 9]];
    for (n, nal) in nals.iter().enumerate() {
        camera.send(0, n == 5, nal);
    }
    assert_eq!(camera.only_unit().nals(), nals);
}

#[test]
fn packets_of_no_use_damage_no_unit_of_another_time() {
    let mut camera = Camera::h264();
    camera.send(0, true, IDR);
    camera.send(1, true, &[0x00, 9, 9]);
    camera.send(2, true, SLICE);
    assert_eq!(camera.damaged(), [false, false]);
    assert_eq!(camera.sink.units[1].lost_packets, 1);
}

#[test]
fn fragments_without_a_start_are_dropped() {
    let mut camera = Camera::h264();
    camera.send(0, false, &[0x7c, 0x05, 1]);
    camera.send(0, false, &[0x7c, 0x45, 1]);
    camera.send(0, true, SLICE);
    assert_eq!(camera.only_unit().nals(), [SLICE]);
    assert!(camera.only_unit().flags.contains(UnitFlags::DAMAGED));
    assert_eq!(camera.stats().fragments_dropped, 2);
}

#[test]
fn a_fragment_may_be_start_and_end() {
    // CostarHD, OpenIPC.
    let mut camera = Camera::h264();
    camera.send(0, true, &[0x7c, 0xc5, 0x88, 1]);
    assert_eq!(camera.only_unit().nals(), [[0x65, 0x88, 1]]);
}

#[test]
fn fragments_that_change_type_or_never_end_are_kept() {
    // Tiandy changes the type; the second start comes while the first is open.
    let mut camera = Camera::h264();
    camera.send(0, false, &[0x7c, 0x85, 0x88]);
    camera.send(0, false, &[0x7c, 0x01, 1]);
    camera.send(0, false, &[0x7c, 0x85, 0x08]);
    camera.send(0, true, &[0x7c, 0x05, 2]);
    assert_eq!(camera.only_unit().nals(), [&[0x65, 0x88, 1][..], &[0x65, 0x08, 2]]);
    assert!(!camera.only_unit().flags.contains(UnitFlags::DAMAGED));
    assert_eq!(camera.stats().fragments_unended, 2);
}

#[test]
fn a_fragment_of_another_timestamp_is_of_no_unit() {
    let mut camera = Camera::h264();
    camera.send(0, false, &[0x7c, 0x85, 0x88]);
    camera.send(1, false, &[0x7c, 0x05, 1]);
    camera.send(1, true, SLICE);
    assert_eq!(camera.sink.nals(), [vec![&[0x65, 0x88][..]], vec![SLICE]]);
    assert!(camera.sink.units[1].flags.contains(UnitFlags::DAMAGED));
}

#[test]
fn empty_and_stunted_payloads_do_no_harm() {
    for payload in [&[][..], &[0x7c], &[0x78], &[0x78, 0], &[0x78, 0, 9, 1], &[0x78, 0, 0], &[0x7c, 0x85]] {
        let mut camera = Camera::h264();
        camera.send(0, false, payload);
        camera.send(0, true, IDR);
        assert_eq!(camera.only_unit().nals().last(), Some(&IDR), "{payload:?}");
    }
}

#[test]
fn zeros_behind_an_aggregate_are_padding() {
    for zeros in 0..5 {
        let mut camera = Camera::h264();
        let mut payload = stap(&[SPS, PPS, IDR]);
        payload.resize(payload.len() + zeros, 0);
        camera.send(0, true, &payload);
        assert_eq!(camera.only_unit().nals(), [SPS, PPS, IDR]);
        assert!(!camera.only_unit().flags.contains(UnitFlags::DAMAGED));
    }
}

#[test]
fn aggregates_that_lie_are_cut_and_flagged() {
    let mut camera = Camera::h264();
    let mut payload = stap(&[SPS, stap(&[PPS]).as_slice(), IDR]);
    let end = payload.len();
    payload[end - IDR.len() - 1] += 1;
    camera.send(0, false, &payload);
    camera.send(0, true, SLICE);
    assert_eq!(camera.only_unit().nals(), [SPS, SLICE]);
    assert!(camera.only_unit().flags.contains(UnitFlags::DAMAGED));
    assert_eq!((camera.stats().nals_dropped, camera.stats().malformed), (1, 1));
}

#[test]
fn unusable_nal_units_are_dropped_and_flagged() {
    for nal in [&[0xe5, 1][..], &[0x00, 9, 9], &[0x7a, 1, 2], &[0x7d, 0x85, 1], &[0x7f, 1]] {
        let mut camera = Camera::h264();
        camera.send(0, false, nal);
        camera.send(0, true, IDR);
        camera.send(1, true, SLICE);
        assert_eq!(camera.sink.nals(), [vec![IDR], vec![SLICE]], "{nal:?}");
        assert!(camera.sink.units[0].flags.contains(UnitFlags::DAMAGED));
        assert!(!camera.sink.units[1].flags.contains(UnitFlags::DAMAGED));
    }
}

#[test]
fn byte_streams_in_payloads_are_taken_apart() {
    // V380, macro-video.
    for start in [&[0, 0, 1][..], &[0, 0, 0, 1]] {
        let mut camera = Camera::h264();
        let stream: Vec<u8> = [SPS, PPS, IDR].iter().flat_map(|nal| [start, nal].concat()).collect();
        camera.send(0, true, &stream);
        assert_eq!(camera.only_unit().nals(), [SPS, PPS, IDR]);
        assert!(camera.only_unit().flags.contains(UnitFlags::KEY));
    }
}

#[test]
fn row74_a_unit_in_the_fragments_of_one_nal_unit_is_taken_apart() {
    let join = |nals: &[&[u8]]| nals.join(&[0, 0, 0, 1][..]);
    for cut in 0..12 {
        let mut camera = Camera::h264();
        camera.cuts = vec![cut];
        let whole = join(&[SPS, PPS, SEI, IDR]);
        camera.send(0, false, &[&[0x7c, 0x87], &whole[1..12]].concat());
        camera.send(0, false, &[&[0x7c, 0x07], &whole[12..20]].concat());
        camera.send(0, true, &[&[0x7c, 0x47], &whole[20..]].concat());
        // It is known by now: others are looked through, too.
        camera.send(1, true, &join(&[SEI, SLICE]));
        camera.send(2, false, &[&[0x5c, 0x81], &SLICE[1..3]].concat());
        camera.send(2, true, &[&[0x5c, 0x41], &SLICE[3..], &[0, 0, 1], SEI].concat());
        let expected = [vec![SPS, PPS, SEI, IDR], vec![SEI, SLICE], vec![SLICE, SEI]];
        assert_eq!(camera.sink.nals(), expected, "cut at {cut}");
        assert_eq!(camera.damaged(), [false; 3]);
        assert!(camera.sink.units[0].flags.contains(UnitFlags::KEY));
    }
}

#[test]
fn a_long_sei_message_is_gathered_no_longer_than_its_first_fragment() {
    let fragments = [[5; 300]; 3];
    let whole = [SEI, fragments.as_flattened()].concat();
    for cut in 0..12 {
        let mut camera = Camera::h264();
        camera.cuts = vec![cut];
        camera.send(0, false, &[&[0x1c, 0x80 | SEI[0] & 0x1f], &SEI[1..], &fragments[0]].concat());
        assert!(!camera.depacketizer.gathering);
        camera.send(0, false, &[&[0x1c, SEI[0] & 0x1f], &fragments[1][..]].concat());
        camera.send(0, false, &[&[0x1c, 0x40 | SEI[0] & 0x1f], &fragments[2][..]].concat());
        camera.send(0, true, IDR);
        assert_eq!(camera.sink.nals(), [[&whole, IDR]], "cut at {cut}");
        assert_eq!(camera.damaged(), [false]);
        assert!(camera.depacketizer.byte_stream.len() <= SEI.len() + 300);
    }
}

#[test]
fn row74_what_is_gathered_and_does_not_end_is_dropped() {
    let start = [&[0x7c, 0x87], &SPS[1..]].concat();
    for next in [stap(&[SPS, PPS, IDR]), start.clone(), [&[0x7c, 0x05], &IDR[1..]].concat()] {
        let mut camera = Camera::h264();
        camera.send(0, true, &stap(&[SPS, PPS, IDR]));
        camera.send(1, false, &start);
        camera.lose(1);
        camera.send(1, true, &next);
        camera.send(2, true, &stap(&[SPS, PPS, IDR]));
        assert_eq!(camera.sink.nals().last().unwrap(), &[SPS, PPS, IDR], "{next:?}");
        assert_eq!(camera.damaged().last(), Some(&false), "{next:?}");
        assert!(
            camera.sink.units.iter().all(|unit| unit.nals().iter().filter(|nal| **nal == SPS).count() <= 1)
        );
    }
    let mut camera = Camera::h264();
    camera.send(0, false, &[&start[..], &[0, 0, 0, 1], PPS].concat());
    for _ in 0..=UNIT_LEN_MAX / 60_000 {
        camera.send(0, false, &[&[0x7c, 0x07], &[7; 60_000][..]].concat());
        assert!(camera.depacketizer.byte_stream.capacity() <= UNIT_LEN_MAX);
    }
    assert!(camera.depacketizer.byte_stream.capacity() == 0 && !camera.depacketizer.gathering);
    assert!(camera.stats().nals_dropped > 0);
}

#[test]
fn a_parameter_set_in_fragments_is_what_it_was() {
    let mut camera = Camera::h264();
    camera.send(0, false, &[&[0x7c, 0x87], &SPS[1..5]].concat());
    camera.send(0, false, &[&[0x7c, 0x47], &SPS[5..]].concat());
    camera.send(0, true, &stap(&[PPS, IDR]));
    assert_eq!(camera.only_unit().nals(), [SPS, PPS, IDR]);
    assert_eq!(camera.sink.configs[0].width, 640);
}

#[test]
fn parameter_sets_of_the_session_description_serve_until_others_come() {
    let mut camera = Camera::h264();
    let wrapped = [&[0, 0, 0, 1], SPS].concat();
    camera.depacketizer.set_parameter_sets([&wrapped[..], PPS]);
    camera.send(0, true, IDR);
    camera.send(1, true, SLICE);
    camera.send(2, true, &stap(&[SPS, PPS, IDR]));
    let other: &[u8] = &[0x68, 0xce, 0x3c, 0x81];
    camera.send(3, true, &stap(&[SPS, other, IDR]));
    let sink = &camera.sink;
    assert_eq!(sink.configs[0].annex_b, [&[0, 0, 0, 1], SPS, &[0, 0, 0, 1], PPS].concat());
    let ids: Vec<_> = sink.units.iter().map(|unit| unit.config.unwrap().0).collect();
    assert_eq!(ids, [0, 0, 0, 1]);
    let changed = sink.units.iter().map(|unit| unit.flags.contains(UnitFlags::CONFIG_CHANGED));
    assert_eq!(changed.collect::<Vec<_>>(), [true, false, false, true]);
}

#[test]
fn a_cut_parameter_set_is_not_kept() {
    let mut camera = Camera::h264();
    camera.send(0, false, &[&[0x7c, 0x87], &SPS[1..5]].concat());
    camera.lose(1);
    camera.send(0, true, IDR);
    assert_eq!(camera.only_unit().config, None);
}

#[test]
fn units_beyond_a_limit_are_dropped_and_what_refers_to_them_is_damaged() {
    for (next, damaged) in [(SLICE, true), (IDR, false)] {
        let mut camera = Camera::h264();
        camera.sink = VecSink::with_limit(64);
        camera.send(0, false, &[0x7c, 0x85, 0x88]);
        for _ in 0..100 {
            camera.send(0, false, &[0x7c, 0x05, 1, 2, 3, 4]);
        }
        camera.send(0, true, &[0x7c, 0x45, 1]);
        camera.send(1, true, next);
        assert_eq!(camera.only_unit().nals(), [next]);
        assert_eq!((camera.only_unit().lost_packets, camera.sink.aborted), (102, 1));
        assert_eq!(camera.damaged(), [damaged]);
        assert_eq!(camera.stats().dropped_too_large, 1);
    }
}

#[test]
fn too_many_nal_units_are_dropped() {
    let mut camera = Camera::h264();
    for _ in 0..3000 {
        camera.send(0, false, SLICE);
    }
    camera.send(1, true, SLICE);
    assert_eq!(camera.only_unit().nals(), [SLICE]);
    assert_eq!(camera.stats().dropped_too_many_nals, 1);
}

#[test]
fn recovery_points_and_disposable_units_are_flagged() {
    let mut camera = Camera::h264();
    camera.send(0, false, RECOVERY_POINT);
    camera.send(0, true, SLICE);
    camera.send(1, true, &[0x01, 0x9a]);
    let flags: Vec<_> = camera.sink.units.iter().map(|unit| unit.flags).collect();
    let entry = UnitFlags::KEY.with(UnitFlags::RECOVERY_POINT);
    assert_eq!(flags, [entry.with(UnitFlags::DISCONT), UnitFlags::NON_REF]);
    assert_eq!(camera.stats().key_units, 1);
}

#[test]
fn an_idr_is_a_key_whatever_its_sei_says() {
    let mut camera = Camera::h264();
    camera.send(0, false, RECOVERY_POINT);
    camera.send(0, true, IDR);
    assert_eq!(camera.only_unit().flags, UnitFlags::KEY.with(UnitFlags::DISCONT));
}

#[test]
fn a_new_timeline_is_a_discontinuity() {
    let mut camera = Camera::h264();
    camera.send(0, true, IDR);
    camera.send(1, true, SLICE);
    camera.timeline = 1;
    camera.send(1, true, IDR);
    let discont = camera.sink.units.iter().map(|unit| unit.flags.contains(UnitFlags::DISCONT));
    assert_eq!(discont.collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_restart_within_a_unit_damages_it() {
    let mut camera = Camera::h264();
    camera.send(0, true, IDR);
    camera.send(1, false, &[0x7c, 0x81, 0x9a, 1]);
    camera.timeline = 1;
    camera.send(9, true, IDR);
    let damaged = camera.sink.units.iter().map(|unit| unit.flags.contains(UnitFlags::DAMAGED));
    assert_eq!(damaged.collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn reset_drops_the_open_unit() {
    let mut camera = Camera::h264();
    camera.send(0, false, IDR);
    assert!(camera.depacketizer.unit_open() && camera.sink.is_open());
    camera.depacketizer.reset(&mut camera.sink);
    camera.send(0, false, &[0x7c, 0x05, 1]);
    camera.send(1, true, SLICE);
    assert_eq!(camera.only_unit().nals(), [SLICE]);
}

#[test]
fn h265_payloads_are_taken_apart() {
    let (vps, sps, pps): (&[u8], &[u8], &[u8]) = (&[0x40, 1, 0x0c], &[0x42, 1, 1], &[0x44, 1, 0xc1]);
    let mut camera = Camera::new(Codec::H265, false);
    camera.send(0, false, &aggregate(&[0x60, 1], &[vps, sps, pps]));
    camera.send(0, false, &[0x62, 1, 0x93, 0xaf, 1]);
    camera.send(0, false, &[0x62, 1, 0x13, 2]);
    camera.send(0, true, &[0x62, 1, 0x53, 3]);
    camera.send(1, true, &[0x02, 1, 0xd0]);
    let idr: &[u8] = &[0x26, 1, 0xaf, 1, 2, 3];
    assert_eq!(camera.sink.nals(), [vec![vps, sps, pps, idr], vec![&[0x02, 1, 0xd0]]]);
    assert!(camera.sink.units[0].flags.contains(UnitFlags::KEY.with(UnitFlags::CONFIG_CHANGED)));
    assert_eq!(camera.sink.units[1].flags, UnitFlags::default());
}

#[test]
fn decoding_order_numbers_are_passed_over_at_any_cut() {
    let (a, b): (&[u8], &[u8]) = (&[0x02, 1, 0xd0, 7], &[0x02, 1, 0x10]);
    for first in 0..16 {
        let mut camera = Camera::new(Codec::H265, true);
        camera.cuts = vec![first];
        camera.send(0, false, &[0x02, 1, 0xff, 0xff, 0xd0, 7]);
        camera.send(0, false, &[0x60, 1, 0xff, 0xff, 0, 4, 2, 1, 0xd0, 7, 0xee, 0, 3, 2, 1, 0x10]);
        camera.send(0, false, &[0x62, 1, 0x81, 0xff, 0xff, 0xd0]);
        camera.send(0, true, &[0x62, 1, 0x41, 7]);
        assert_eq!(camera.only_unit().nals(), [a, a, b, a], "{first}");
    }
}

#[test]
fn decoding_order_numbers_are_passed_over_where_start_codes_are_looked_for() {
    let (vps, slice): (&[u8], &[u8]) = (&[0x40, 1, 0x0c, 1], &[0x02, 1, 0xd0, 7]);
    let long_vps = [vps, &[0xff; 300]].concat();
    for first in 0..12 {
        let mut camera = Camera::new(Codec::H265, true);
        camera.cuts = vec![first];
        camera.send(0, false, &[&[0x40, 1, 0, 9], &long_vps[2..]].concat());
        camera.send(0, true, &[&[0x62, 1, 0xe0, 0, 9], &vps[2..], &[0, 0, 1], slice].concat());
        // It is known by now that start codes come.
        camera.send(1, false, &[0x40, 1, 0, 9, 0x0c, 1]);
        camera.send(1, true, &[0x02, 1, 0, 9, 0xd0, 7]);
        let expected = [vec![&long_vps[..], vps, slice], vec![vps, slice]];
        assert_eq!(camera.sink.nals(), expected, "cut at {first}");
    }
}

#[test]
fn h265_disposable_units_are_of_the_highest_layer() {
    let mut camera = Camera::new(Codec::H265, false);
    camera.send(0, true, &[0x00, 0x02, 0x80]);
    camera.send(1, true, &[0x00, 0x03, 0x80]);
    camera.send(2, true, &[0x00, 0x02, 0x80]);
    let disposable = camera.sink.units.iter().map(|unit| unit.flags.contains(UnitFlags::NON_REF));
    assert_eq!(disposable.collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn h265_paci_and_reserved_types_are_dropped() {
    for nal_type in 50..64_u8 {
        let mut camera = Camera::new(Codec::H265, false);
        camera.send(0, false, &[nal_type << 1, 1, 2, 3]);
        camera.send(0, true, &[0x26, 1, 0x80]);
        assert_eq!(camera.only_unit().nals(), [[0x26, 1, 0x80]], "{nal_type}");
        assert!(camera.only_unit().flags.contains(UnitFlags::DAMAGED));
    }
}

/// Sends packets in order, each payload cut at `cuts`.
struct Camera {
    depacketizer: Depacketizer,
    sink: VecSink,
    cuts: Vec<usize>,
    timeline: u32,
    sequence: u16,
    lost: u32,
}

impl Camera {
    fn h264() -> Self {
        Self::new(Codec::H264, false)
    }

    fn new(codec: Codec, has_don: bool) -> Self {
        let depacketizer = Depacketizer::new(codec, has_don);
        Self { depacketizer, sink: VecSink::new(), cuts: vec![], timeline: 0, sequence: 0, lost: 0 }
    }

    fn lose(&mut self, packets: u16) {
        self.sequence += packets;
        self.lost += u32::from(packets);
    }

    /// The next packet, without payload.
    fn packet(&mut self, timestamp: u32, marker: bool) -> PacketInfo {
        PacketInfo {
            sequence: self.sequence,
            timestamp,
            marker,
            ssrc: 1,
            payload_len: 0,
            lost_before: std::mem::take(&mut self.lost),
            media_ticks: i64::from(timestamp),
            timeline: self.timeline,
            ticks_estimated: false,
            received: Mono(u64::from(self.sequence)),
            wall: UnixNanos(0),
            wall_error_us: u32::MAX,
            clock_source: ClockSource::Receive,
        }
    }

    fn send(&mut self, timestamp: u32, marker: bool, payload: &[u8]) {
        let packet = PacketInfo { payload_len: payload.len(), ..self.packet(timestamp, marker) };
        self.sequence += 1;
        self.depacketizer.packet_begin(&packet, &mut self.sink);
        let mut from = 0;
        for to in self.cuts.iter().map(|cut| (*cut).min(payload.len())).chain([payload.len()]) {
            self.depacketizer.packet_bytes(&payload[from..to], &mut self.sink);
            from = to;
        }
        self.depacketizer.packet_end(&mut self.sink);
        assert_eq!(self.depacketizer.unit_open(), self.sink.is_open());
    }

    /// Of each unit, whether it is flagged.
    fn damaged(&self) -> Vec<bool> {
        self.sink.units.iter().map(|unit| unit.flags.contains(UnitFlags::DAMAGED)).collect()
    }

    fn only_unit(&self) -> &OwnedUnit {
        assert_eq!(self.sink.units.len(), 1);
        &self.sink.units[0]
    }

    fn stats(&self) -> &Stats {
        self.depacketizer.stats()
    }
}

fn stap(nals: &[&[u8]]) -> Vec<u8> {
    aggregate(&[0x78], nals)
}

fn aggregate(header: &[u8], nals: &[&[u8]]) -> Vec<u8> {
    let mut payload = header.to_vec();
    for nal in nals {
        payload.extend(u16::try_from(nal.len()).unwrap().to_be_bytes());
        payload.extend_from_slice(nal);
    }
    payload
}
