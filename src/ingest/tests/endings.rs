//! What a connection leaves behind when it ends: counted units, no half ones, and a camera that knows.

use super::*;
use crate::limits::RTSP_RESYNC_LEN_MAX;

/// Nobody can say where this message ends.
const BROKEN: &[u8] = b"RTSP/1.0 200 OK\r\nContent-Length: x\r\n\r\n";

#[test]
fn a_failure_in_the_same_receive_as_the_first_unit_is_told_behind_it_and_to_the_camera() {
    let mut world = World::asked_to_play();
    world.reply(200, "");
    let unit =
        [&[b'$', 0, 0, 17, 0x80, 0xe0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9][..], &[0x65, 0x88, 1, 2, 3]].concat();
    world.receive(&[&unit, BROKEN].concat());
    assert_eq!(world.sink.units.len(), 1);
    assert!(world.sent().contains("TEARDOWN "), "the camera holds a session for us");
    assert_eq!(world.take(), [], "the connection stays for its answer");
    world.reply(200, "");
    world.expect_failure(State::Backoff, Reason::NotRtsp, "does not speak RTSP");
    // It had delivered video: the next session is a reconnect.
    world.pass(Duration::from_secs(2));
    world.play();
    world.unit(0, 0, true);
    assert_eq!(world.camera.stats().reconnects, 1);
}

#[test]
fn a_search_that_is_given_up_ends_the_same_however_it_was_received() {
    let ended = |portion| {
        let mut world = World::playing();
        world.packet(1, 3600, false, &[0x41, 0x88, 1, 2, 3]);
        vec![b'x'; RTSP_RESYNC_LEN_MAX + 1].chunks(portion).for_each(|piece| world.receive(piece));
        world.expect_failure(State::Backoff, Reason::NotRtsp, "no frame found");
        let flags = world.sink.units.last().unwrap().flags;
        (CameraStats { skipped_bytes: 0, ..*world.camera.stats() }, flags)
    };
    let (stats, flags) = ended(usize::MAX);
    assert_eq!((stats, flags), ended(5000));
    assert_eq!((stats.units, stats.resyncs), (2, 0), "nothing was found again");
    assert!(flags.contains(UnitFlags::DAMAGED));
}

#[test]
fn a_connection_that_did_not_come_up_is_closed_once_or_not_at_all() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.start();
    world.take();
    world.pass(Duration::from_secs(5));
    let next = world.expect_failure(State::Backoff, Reason::ConnectTimeout, "did not answer");
    assert_eq!(world.take(), [Did::Close], "it is given up");
    world.pass(next.since(world.now.mono));
    world.take();
    world.camera.on_connect_failed(world.now, ConnectFailure::Refused);
    assert_eq!(world.take(), [], "nothing is there to be closed");
}

#[test]
fn a_unit_that_the_end_of_the_connection_completes_is_counted() {
    let endings: [fn(&mut World); 4] = [
        |world| world.camera.on_closed(world.now, PeerClose::Closed, &mut world.sink),
        |world| world.camera.stop(world.now, &mut world.sink),
        |world| world.camera.start(world.now, &mut world.sink),
        |world| world.pass(Duration::from_secs(10)),
    ];
    for ending in endings {
        let mut world = World::playing();
        world.packet(1, 3600, false, &[0x41, 0x88, 1, 2, 3]);
        ending(&mut world);
        assert!(world.sink.units[1].flags.contains(UnitFlags::DAMAGED));
        let stats = *world.camera.stats();
        assert_eq!((world.sink.units.len(), stats.units, stats.damaged_units), (2, 2, 1));
    }
}

#[test]
fn a_restart_ends_the_session_before_it_begins_another() {
    let mut world = World::playing();
    world.start();
    assert!(world.sent().contains("TEARDOWN "));
    assert_eq!((world.take(), world.camera.status().state), (vec![], State::Connecting));
    assert!(world.camera.is_attempting());
    world.reply(200, "");
    let address = "10.1.1.1:554".parse().unwrap();
    assert_eq!(world.take(), [Did::Close, Did::Connect(address)]);
    world.play();
    world.unit(0, 0, true);
    assert_eq!((world.camera.status().state, world.camera.stats().failures), (State::Streaming, 0));

    // One that does not answer is waited for no longer than a second, and one that was being left anyway is not left twice.
    world.start();
    world.pass(Duration::from_millis(600));
    world.start();
    assert_eq!(world.sent().matches("TEARDOWN ").count(), 1);
    world.take();
    world.pass(Duration::from_millis(400));
    assert_eq!(world.take(), [Did::Close, Did::Connect(address)]);

    // There is nothing to be ended.
    world.connect();
    world.start();
    assert_eq!(world.take(), [Did::Close, Did::Connect(address)]);
}

#[test]
fn a_restart_that_is_stopped_stops() {
    let mut world = World::playing();
    world.start();
    world.camera.stop(world.now, &mut world.sink);
    world.reply(200, "");
    assert_eq!(world.take(), [Did::Close, Did::Stopped]);
}

#[test]
fn what_comes_after_our_last_word_is_passed_over() {
    let farewells: [fn(&mut World); 2] = [
        |world| world.camera.stop(world.now, &mut world.sink),
        // No video: the session is given up.
        |world| world.pass(Duration::from_secs(10)),
    ];
    for farewell in farewells {
        let mut world = World::playing();
        world.packet(1, 3600, false, &[0x41, 0x88, 1, 2, 3]);
        farewell(&mut world);
        assert!(world.sent().contains("TEARDOWN "));
        let units = world.sink.units.len();
        world.packet(2, 3600, true, &[0x41, 0x48, 1, 2, 3]);
        world.packet(3, 7200, false, &[0x41, 0x88, 1, 2, 3]);
        assert!(world.sink.units.len() == units && !world.sink.is_open(), "a rest of a unit is no unit");
        world.start();
        world.reply(200, "");
        world.play();
        world.unit(0, 0, true);
        assert_eq!(world.sink.units.len(), units + 1);
    }
}

#[test]
fn a_camera_that_breaks_the_protocol_is_told_that_we_leave() {
    let question = "OPTIONS rtsp://10.1.1.1/live RTSP/1.0\r\nCSeq: 1\r\n\r\n";
    for breach in ["RTSP/1.0 200 OK\r\nContent-Length: 99999999\r\n\r\n", &question.repeat(400)] {
        let mut world = World::asked_to_play();
        // With the first picture, in one receive: two things are found, and the first is the end.
        let mut bytes = b"RTSP/1.0 200 OK\r\n\r\n$\0\0\x11\x80\xe0".to_vec();
        bytes.extend([0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 0x65, 0x88, 1, 2, 3]);
        bytes.extend(breach.as_bytes());
        world.receive(&bytes);
        assert_eq!((world.sink.units.len(), world.camera.status().state), (1, State::Backoff));
        assert!(world.sent().contains("TEARDOWN "), "{}", world.log);
        world.reply(200, "");
        assert_eq!(world.take(), [Did::Close]);
    }
}
