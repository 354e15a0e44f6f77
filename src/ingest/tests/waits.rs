//! How long a camera may be silent, and how long after which failure it is tried again.

use super::*;

#[test]
fn a_unit_that_came_before_plays_answer_is_as_old_as_it_is() {
    let mut world = World::asked_to_play();
    world.unit(0, 0, true);
    world.pass(Duration::from_secs(4));
    world.reply(200, "");
    assert_eq!(world.camera.status().state, State::Streaming);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.camera.status().state, State::Stalled);
}

#[test]
fn a_unit_that_came_before_play_was_sent_is_no_answer_to_it_in_whatever_portions_it_came() {
    for is_together in [true, false] {
        let mut world = World::new("rtsp://10.1.1.1/live");
        world.start();
        world.ask_to_set_up();
        let unit =
            [&[b'$', 0, 0, 14, 0x80, 0x80 | 96, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9][..], &[0x65, 0x88]].concat();
        let answer = b"RTSP/1.0 200 X\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\nSession: 1\r\n\r\n";
        if is_together {
            world.receive(&[&unit, &answer[..]].concat());
        } else {
            world.receive(&unit);
            world.receive(answer);
        }
        assert_eq!(world.camera.stats().units, 1);
        assert!(world.sent().contains("PLAY "));
        world.pass(Duration::from_secs(5));
        world.expect_failure(State::Backoff, Reason::ReplyTimeout, "PLAY");
    }
}

#[test]
fn each_refusal_has_its_state_its_words_and_its_wait() {
    for (status, state, reason, advice, wait_s) in [
        (401, State::AuthFailed, Reason::AuthRefused, "none are set", 300),
        (403, State::Backoff, Reason::Forbidden, "rights", 300),
        (404, State::Backoff, Reason::NotFound, "path", 1),
        (453, State::Backoff, Reason::SessionLimit, "viewers", 15),
        (503, State::Backoff, Reason::ServiceUnavailable, "overloaded", 15),
        (500, State::Backoff, Reason::RequestRefused, "500", 1),
    ] {
        let mut world = World::new("rtsp://10.1.1.1/live");
        world.start();
        world.connect();
        world.reply(200, "");
        let challenge = if status == 401 { "WWW-Authenticate: Basic realm=\"x\"\r\n" } else { "" };
        world.reply(status, challenge);
        let next = world.expect_failure(state, reason, advice);
        let wait = next.since(world.now.mono).as_secs_f64() / f64::from(wait_s);
        assert!((0.79..=1.21).contains(&wait), "{status}: {wait} of {wait_s} s");
    }
}

#[test]
fn failures_back_off_and_stable_video_forgets_them() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.start();
    let mut waits = Vec::new();
    for _ in 0..7 {
        world.camera.on_connect_failed(world.now, ConnectFailure::Refused);
        let next = world.camera.status().next_attempt.unwrap();
        waits.push(next.since(world.now.mono).as_secs_f64());
        world.pass(next.since(world.now.mono));
    }
    for (wait, expected) in waits.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
        assert!((0.79..=1.21).contains(&(wait / expected)), "{waits:?}");
    }
    world.play();
    for number in 0..12 {
        world.unit(number, u32::from(number) * 90_000, number == 0);
        world.pass(Duration::from_secs(1));
    }
    world.camera.on_closed(world.now, PeerClose::Reset, &mut world.sink);
    let next = world.expect_failure(State::Backoff, Reason::ConnectionLost, "reset");
    assert!(next.since(world.now.mono) <= Duration::from_millis(1200), "the series begins anew");
}

#[test]
fn a_camera_that_was_out_of_reach_can_be_tried_early() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.start();
    for _ in 0..6 {
        world.camera.on_connect_failed(world.now, ConnectFailure::TimedOut);
        let next = world.camera.status().next_attempt.unwrap();
        world.pass(next.since(world.now.mono));
    }
    world.camera.on_connect_failed(world.now, ConnectFailure::TimedOut);
    world.take();
    assert!(!world.camera.is_about_to_begin(world.now));
    world.camera.hasten(world.now);
    assert_eq!(world.camera.status().next_attempt, Some(world.now.mono));
    assert!(world.camera.is_about_to_begin(world.now));
    world.pass(Duration::ZERO);
    assert!(world.camera.is_attempting());
    world.camera.hasten(world.now);
    assert_eq!(world.camera.status().state, State::Connecting);
    // It was not back. The waits go on where they were.
    world.camera.on_connect_failed(world.now, ConnectFailure::TimedOut);
    let next = world.camera.status().next_attempt.unwrap();
    assert!(next.since(world.now.mono) >= Duration::from_secs(24));
}

#[test]
fn waits_after_a_refusal_are_not_cut_short() {
    for (status, least_s) in [(401, 300), (403, 300), (453, 12), (503, 12)] {
        let mut world = World::new("rtsp://10.1.1.1/live");
        world.start();
        world.connect();
        world.reply(200, "");
        let challenge = if status == 401 { "WWW-Authenticate: Basic realm=\"x\"\r\n" } else { "" };
        world.reply(status, challenge);
        world.camera.hasten(world.now);
        let next = world.camera.status().next_attempt.unwrap();
        assert!(next.since(world.now.mono) >= Duration::from_secs(least_s), "{status}");
    }
}

#[test]
fn a_refused_login_after_refused_connections_waits_the_first_wait_of_its_kind() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.start();
    // The camera starts anew: its port opens last.
    for _ in 0..5 {
        world.camera.on_connect_failed(world.now, ConnectFailure::Refused);
        let next = world.camera.status().next_attempt.unwrap();
        world.pass(next.since(world.now.mono));
    }
    world.connect();
    world.reply(200, "");
    world.reply(401, "WWW-Authenticate: Basic realm=\"x\"\r\n");
    let next = world.expect_failure(State::AuthFailed, Reason::AuthRefused, "none are set");
    let wait_s = next.since(world.now.mono).as_secs();
    assert!((240..=360).contains(&wait_s), "{wait_s} s");
}

#[test]
fn another_policy_holds_from_the_next_wait_on() {
    let mut world = World::new("rtsp://10.1.1.1/live");
    world.start();
    world.camera.on_connect_failed(world.now, ConnectFailure::Refused);
    let promised = world.camera.status().next_attempt.unwrap();
    let s = Duration::from_secs;
    let retry = Wait { initial: s(5), max: s(5), multiplier: 1, jitter_percent: 0 };
    world.camera.set_policy(
        world.now,
        Policy { retry, connect_timeout: s(7), idle_timeout: s(3), ..Policy::default() },
    );
    assert_eq!(world.camera.status().next_attempt, Some(promised), "what was told stays true");
    world.pass(promised.since(world.now.mono));
    assert_eq!(world.camera.poll_timeout(), Some(world.now.mono + s(7)));
    for _ in 0..4 {
        world.camera.on_connect_failed(world.now, ConnectFailure::Refused);
        let next = world.camera.status().next_attempt.unwrap();
        assert_eq!(next.since(world.now.mono), s(5));
        world.pass(s(5));
    }

    world.play();
    world.unit(0, 0, true);
    world.unit(1, 3_600, false);
    world.pass(s(3));
    assert_eq!(world.camera.status().state, State::Stalled);
    assert!(world.camera.status().detail.contains("3 s"), "{}", world.camera.status().detail);

    // While video flows, too.
    world.unit(2, 7_200, false);
    world.unit(3, 10_800, false);
    assert_eq!(world.camera.status().state, State::Streaming);
    world.camera.set_policy(world.now, Policy { idle_timeout: s(60), ..Policy::default() });
    world.unit(4, 14_400, false);
    world.unit(5, 18_000, false);
    world.pass(s(10));
    assert_eq!(world.camera.status().state, State::Streaming);
}
