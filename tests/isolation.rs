//! Promise: whatever cameras do, the others' readers do not notice.

mod support;

use std::time::Duration;

use support::{Cameras, Lab, SOON, Tap, assert_flawless};

/// Every way in which a camera can take more than its share, and a few others; `quirks.rs` has them all.
const FAULTS: &[&str] = &[
    "status=401",
    "status=453",
    "status=503",
    "no-video",
    "codec=VP8",
    "huge-header",
    "huge-body",
    "endless-header",
    "endless-fu",
    "close-after=5",
    "stall-after=5",
    "garbage",
    "lose=7",
    "no-marker",
    "ssrc-change=3",
    "server-request",
    "reset-after=5",
    "mute@3s",
    "slow-answers=300",
    "early-media",
    "huge-unit=10",
    "cut-frame=3",
    "false-frames=3",
    "big-packets",
    "annexb",
    "duplicate=1",
    "resolution-change=5",
    "wrong-password",
    "reset@2s/1s",
    "power-cut@2s+200ms/1s",
];
/// Of these, the ones that send as fast as they are read.
const FLOODS: u64 = 4;
const GOOD: [&str; 4] = ["cam0", "cam1", "cam2", "cam3"];
const SECONDS: usize = 8;
const FPS: usize = 25;

#[test]
fn good_cameras_lose_nothing_while_others_misbehave_in_every_way() {
    let lab = Lab::new("isolation");
    // One thread for all, so that there is something to isolate.
    let mut daemon = lab.daemon(&["--shards", "1"]);
    let cameras = lab.cameras(&["--cameras", "4", "--bitrate", "4M"]);
    for id in GOOD {
        lab.setup(id, &cameras.url(id));
    }
    let count = (GOOD.len() * SECONDS * FPS).to_string();
    let options = ["--stamp", "--json", "--from", "oldest", "--count", &count];
    let mut tap: Tap = lab.tap(&[options.as_slice(), &GOOD].concat()).into();
    tap.take_records(GOOD.len() * FPS, SOON);
    let begun = support::now();

    // From here on there are seven seconds of trouble.
    let farms: Vec<Cameras> =
        FAULTS.iter().map(|fault| lab.cameras(&["--fault", fault, "--bitrate", "4M"])).collect();
    for (number, farm) in farms.iter().enumerate() {
        lab.setup(&format!("bad{number}"), &farm.url("h264"));
    }
    let status = tap.process.wait_for_end(SOON + Duration::from_secs(SECONDS as u64));

    let summaries = tap.summaries();
    assert!(status.success(), "vms-tap: {status}\n{summaries:#?}");
    for id in GOOD {
        assert_flawless(id, &summaries[id]);
        let stream = lab.ctl_json(&["get", id]);
        assert_eq!((&stream["state"], &stream["reconnects"]), (&"streaming".into(), &0.into()), "{stream:#}");
    }
    // Those who send as fast as they are read are not read faster than a camera may send.
    let number = FAULTS.iter().position(|fault| *fault == "endless-fu").expect("it is one of them");
    let flood = lab.ctl_json(&["get", &format!("bad{number}")]);
    assert!(flood["stats"]["throttled"].as_u64() > Some(0), "{flood:#}");
    let received = lab.ctl_json(&["info"])["shard_stats"][0]["received_bytes"].as_u64().expect("a counter");
    let seconds = (support::now() - begun).as_secs() + 1;
    let cameras_there_are = (GOOD.len() + FAULTS.len()) as u64;
    let may_come = cameras_there_are * 500_000 * seconds + FLOODS * (4 * 1024 * 1024 + 12_500_000 * seconds);
    assert!(received <= may_come, "{received} bytes in {seconds} s, {may_come} may come");
    // Each bad camera was really there.
    for (fault, farm) in FAULTS.iter().zip(farms) {
        let stats = farm.stop();
        assert_ne!(stats["connects"], 0, "{fault}: {stats}");
    }
    let stats = cameras.stop();
    for id in GOOD {
        let camera = &stats["cameras"][id];
        assert_eq!((&camera["plays"], &camera["dropped"]), (&1.into(), &0.into()), "{stats}");
    }
    assert!(daemon.terminate().success());
}
