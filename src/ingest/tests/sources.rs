//! Packets of several sources on one connection: one timeline for the one that goes on, and no picture lost of one that
//! takes over.

use super::*;

/// The source of [`World::packet`].
const OURS: u32 = 0x0909_0909;
const OTHER: u32 = 0x0bad_5e55;

#[test]
fn row18_an_earlier_sessions_pictures_leave_no_trace() {
    let mut world = World::playing();
    for n in 1..50_u16 {
        let timestamp = u32::from(n) * 3600;
        world.packet(2 * n - 1, timestamp, false, &[0x41, 0x88, 1, 2, 3]);
        // Some come in the middle of a picture, some behind.
        world.packet_of(OTHER, 700 + n, timestamp + 77, true, &[0x65, 0x88, 7, 7]);
        world.packet(2 * n, timestamp, true, &[0x41, 0x08, 1, 2, 3]);
        world.packet_of(OTHER, 701 + n, timestamp + 78, n % 2 == 0, &[0x65, 0x88, 7, 7]);
    }
    let units = &world.sink.units;
    assert_eq!(units.len(), 50);
    assert!(units.iter().all(|unit| unit.ssrc == OURS && unit.timeline == units[0].timeline));
    assert!(units.iter().all(|unit| !unit.flags.contains(UnitFlags::DAMAGED) && unit.lost_packets == 0));
    let stats = world.camera.stats();
    assert_eq!((stats.units, stats.packets), (50, 99));
    assert!(
        (97..=98).contains(&stats.ignored_packets),
        "all that the other sent, but what is held: {stats:?}"
    );
}

#[test]
fn row55_a_new_source_is_a_new_timeline_without_a_unit_lost() {
    let mut world = World::playing();
    for group in 1..9_u32 {
        let ssrc = 100 + group;
        for n in 0..4_u16 {
            world.pass(Duration::from_millis(40));
            let timestamp = group * 1_000_000 + u32::from(n) * 3600;
            let header = if n == 0 { 0x65 } else { 0x41 };
            world.packet_of(ssrc, 2 * n, timestamp, false, &[header, 0x88, 1, 2]);
            world.packet_of(ssrc, 2 * n + 1, timestamp, true, &[header, 0x08, 1, 2]);
        }
    }
    let units = &world.sink.units;
    assert_eq!(units.len(), 1 + 8 * 4);
    for (group, units) in units[1..].chunks(4).enumerate() {
        assert!(units[0].flags.contains(UnitFlags::KEY.with(UnitFlags::DISCONT)), "{group}");
        assert!(units.iter().all(|unit| unit.timeline == units[0].timeline && unit.ssrc == units[0].ssrc));
        let arrivals: Vec<_> = units.iter().map(|unit| unit.received).collect();
        assert!(arrivals.windows(2).all(|pair| pair[1].since(pair[0]) == Duration::from_millis(40)));
        assert_eq!(units[3].media_ticks - units[0].media_ticks, 3 * 3600);
    }
    assert!(units.iter().all(|unit| !unit.flags.contains(UnitFlags::DAMAGED) && unit.lost_packets == 0));
    let timelines: Vec<_> = units.iter().map(|unit| unit.timeline).collect();
    assert_eq!((timelines[0] + 8, timelines.is_sorted()), (timelines[units.len() - 1], true));
    assert_eq!(world.camera.stats().packets, 1 + 64);
}

#[test]
fn a_new_sources_last_picture_is_published_when_the_connection_ends() {
    let mut world = World::playing();
    world.packet_of(OTHER, 1, 5, true, &[0x65, 0x88, 1, 2]);
    assert_eq!(world.sink.units.len(), 1, "not known yet whether it is one of an earlier session");
    world.camera.on_closed(world.now, PeerClose::Closed, &mut world.sink);
    let [first, last] = world.sink.units.as_slice() else { panic!("two units") };
    assert_eq!((last.ssrc, last.timeline), (OTHER, first.timeline + 1));
}

#[test]
fn row18_the_announced_source_is_heard_though_another_came_first() {
    let mut world = World::asked_to_play();
    world.reply(200, "RTP-Info: url=rtsp://10.1.1.1/live/t0;seq=30;rtptime=9\r\n");
    for n in 0..3_u16 {
        world.packet_of(OTHER, n, u32::from(n) * 3600, true, &[0x65, 0x88, 1, 2]);
    }
    for n in 0..9_u16 {
        world.packet(30 + n, u32::from(n) * 3600, true, &[0x65, 0x88, 1, 2]);
        world.packet_of(OTHER, 3 + n, u32::from(3 + n) * 3600, true, &[0x65, 0x88, 1, 2]);
    }
    let sources: Vec<_> = world.sink.units.iter().map(|unit| unit.ssrc).collect();
    assert_eq!(sources, [[OTHER; 3].as_slice(), &[OURS; 9]].concat());
}
