//! What is missing flags the units that it may have been of, or that refer to it, and no others.

use super::*;

#[test]
fn loss_inside_a_unit_damages_it() {
    let mut camera = Camera::h264();
    camera.send(0, false, &[0x7c, 0x85, 0x88, 1]);
    camera.lose(2);
    camera.send(0, false, &[0x7c, 0x05, 2]);
    camera.send(0, true, &[0x7c, 0x45, 3]);
    camera.send(1, true, SLICE);
    assert_eq!(camera.sink.nals(), [vec![&[0x65, 0x88, 1][..]], vec![SLICE]]);
    let units = &camera.sink.units;
    assert_eq!((units[0].lost_packets, units[1].lost_packets), (2, 0));
    assert!(units[0].flags.contains(UnitFlags::DAMAGED.with(UnitFlags::KEY)));
    assert_eq!(units[1].flags, UnitFlags::default());
    assert_eq!((camera.stats().fragments_dropped, camera.stats().fragments_unended), (2, 0));
}

#[test]
fn loss_between_units_damages_the_one_without_its_end_and_what_refers_to_it() {
    let mut camera = Camera::h264();
    camera.send(0, true, IDR);
    camera.send(1, false, SLICE);
    camera.lose(3);
    camera.send(2, true, SLICE);
    camera.send(3, false, SLICE);
    camera.lose(1);
    camera.send(4, true, IDR);
    assert_eq!(camera.damaged(), [false, true, true, true, false]);
    let lost: Vec<_> = camera.sink.units.iter().map(|unit| unit.lost_packets).collect();
    assert_eq!(lost, [0, 0, 3, 0, 1]);
}

#[test]
fn a_lost_unit_damages_the_next_that_may_refer_to_it() {
    let mut camera = Camera::h264();
    camera.send(0, true, IDR);
    camera.lose(1);
    camera.send(2, true, SLICE);
    camera.send(3, true, SLICE);
    camera.lose(1);
    camera.send(5, true, IDR);
    assert_eq!(camera.damaged(), [false, true, false, false]);
}

#[test]
fn loss_before_a_key_unit_damages_it_unless_its_head_is_there() {
    for (head, damaged) in [(&[SPS, PPS, SEI][..], false), (&[PPS, SEI], true), (&[SEI], true), (&[], true)] {
        let mut camera = Camera::h264();
        camera.send(0, true, &stap(&[SPS, PPS, SEI, IDR]));
        camera.send(1, true, SLICE);
        camera.lose(1);
        head.iter().for_each(|nal| camera.send(2, false, nal));
        camera.send(2, true, IDR);
        assert_eq!(camera.damaged(), [false, false, damaged], "{head:?}");
    }
}

#[test]
fn a_key_unit_without_its_first_slice_is_damaged() {
    let mut camera = Camera::h264();
    camera.send(0, true, IDR);
    camera.lose(1);
    camera.send(1, true, &[0x65, 0x02, 9]);
    assert_eq!(camera.damaged(), [false, true]);
}

#[test]
fn loss_before_the_first_key_unit_damages_it() {
    let mut camera = Camera::h264();
    camera.send(0, true, SLICE);
    camera.lose(1);
    camera.send(1, true, IDR);
    assert_eq!(camera.damaged(), [false, true]);
}

#[test]
fn a_lost_recovery_point_is_no_key() {
    let mut camera = Camera::h264();
    camera.send(0, false, RECOVERY_POINT);
    camera.send(0, true, SLICE);
    for timestamp in [1, 2] {
        camera.lose(1);
        if timestamp == 2 {
            camera.send(timestamp, false, RECOVERY_POINT);
        }
        camera.send(timestamp, true, SLICE);
    }
    assert_eq!(camera.damaged(), [false, true, false]);
    assert!(!camera.sink.units[1].flags.contains(UnitFlags::KEY));
}

#[test]
fn the_head_of_a_lost_picture_does_not_speak_for_the_next() {
    let mut camera = Camera::h264();
    camera.send(0, true, IDR);
    camera.send(1, false, PPS);
    camera.send(1, false, RECOVERY_POINT);
    camera.lose(1);
    camera.send(2, true, SLICE);
    camera.send(3, false, SEI);
    camera.lose(1);
    camera.send(4, true, IDR);
    // The end of a fragmented slice came, and nothing is missing between the pictures.
    camera.send(5, false, RECOVERY_POINT);
    camera.lose(1);
    camera.send(5, true, &[0x7c, 0x41, 1]);
    camera.send(6, true, SLICE);
    assert_eq!(camera.sink.nals(), [vec![IDR], vec![SLICE], vec![IDR], vec![SLICE]]);
    assert_eq!(camera.sink.units[1].flags, UnitFlags::DAMAGED);
    assert_eq!(camera.sink.units[3].flags, UnitFlags::DAMAGED);
    assert_eq!(camera.damaged(), [false, true, false, true]);
    assert_eq!(camera.sink.units.iter().map(|unit| unit.lost_packets).collect::<Vec<_>>(), [0, 3, 2, 3]);
}
