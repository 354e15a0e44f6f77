//! When pictures were taken, by reports whose timestamps are those of the pictures.

use super::*;
use crate::rtp::ClockSource;

#[test]
fn a_report_counts_for_the_timestamps_that_it_was_made_for() {
    let mut world = World::playing();
    // The source of `World::packet`; 2023-11-14T22:13:20Z, at timestamp 0.
    let report = |ssrc: u8| {
        let ntp = (1_700_000_000_u64 + 2_208_988_800) << 32;
        let parts = [&[0x80, 200, 0, 6], &[ssrc; 4][..], &ntp.to_be_bytes(), &0_u32.to_be_bytes(), &[0; 8]];
        let packet = parts.concat();
        [&[b'$', 1, 0, u8::try_from(packet.len()).unwrap()], &packet[..]].concat()
    };
    let newest = |world: &World| {
        let unit = world.sink.units.last().unwrap();
        (unit.clock_source, unit.wall.0 - 1_700_000_000_000_000_000)
    };
    world.receive(&report(9));
    world.unit(1, 3_600, false);
    world.unit(2, 7_200, false);
    assert_eq!(newest(&world), (ClockSource::SenderReport, 80_000_000));
    // Less than a minute on, as when a camera's clock was set: first in doubt, then another timeline.
    for (sequence, timestamp) in [(3, 4_000_000), (4, 4_003_600), (5, 4_007_200)] {
        world.unit(sequence, timestamp, false);
        assert_eq!(newest(&world).0, ClockSource::Receive, "{timestamp}");
    }
    world.receive(&report(8));
    world.unit(6, 4_010_800, false);
    assert_eq!(newest(&world).0, ClockSource::SenderReport, "a name of the camera's own");
}
