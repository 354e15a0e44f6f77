//! Promise: a reader gets every access unit of many cameras, once, in order and intact.

mod support;

use std::time::Duration;

use support::{Lab, SOON, Tap, assert_flawless};

const CAMERAS: usize = 32;
const SECONDS: usize = 30;
const FPS: usize = 25;

#[test]
fn one_session_reads_every_unit_of_32_cameras() {
    let lab = Lab::new("load");
    let mut daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", &CAMERAS.to_string(), "--bitrate", "4M"]);
    let ids: Vec<String> = (0..CAMERAS).map(|index| format!("cam{index}")).collect();
    for id in &ids {
        lab.setup(id, &cameras.url(id));
    }

    let duration = SECONDS.to_string();
    let mut arguments = vec!["--stamp", "--json", "--from", "oldest", "--duration", &duration];
    arguments.extend(ids.iter().map(String::as_str));
    let mut tap: Tap = lab.tap(&arguments).into();
    let status = tap.process.wait_for_end(Duration::from_secs(SECONDS as u64) + SOON);
    let summaries = tap.summaries();

    assert!(status.success(), "vms-tap: {status}\n{summaries:#?}");
    assert_eq!(summaries.len(), CAMERAS);
    for (id, summary) in &summaries {
        let units = summary["units"].as_u64().unwrap();
        // The camera may have started a moment after the reader, and the last unit may be on its way.
        assert!(units >= (FPS * (SECONDS - 2)) as u64, "{id}: {units} units");
        assert_flawless(id, summary);
        let bits = summary["bytes"].as_u64().unwrap() * 8;
        assert!(bits >= 3_500_000 * (SECONDS as u64 - 2), "{id}: {bits} bits only");
    }
    let info = lab.ctl_json(&["info"]);
    let sum = |name: &str| -> u64 {
        info["shard_stats"].as_array().unwrap().iter().map(|shard| shard[name].as_u64().unwrap()).sum()
    };
    // Shards tell about once a second.
    let read: u64 = summaries.values().map(|summary| summary["bytes"].as_u64().unwrap()).sum();
    assert!(sum("received_bytes") > read / 10 * 9, "{read} bytes were read: {info}");
    assert_eq!(sum("streams"), CAMERAS as u64);
    for name in ["turns", "wake_ups", "system_calls", "completions", "reader_wakes", "cpu_ns"] {
        assert!(sum(name) > 0, "{name}: {info}");
    }
    assert!(daemon.terminate().success());
}

#[test]
fn a_reader_that_can_wait_is_woken_less_often_and_gets_every_unit() {
    let wakes = [0, 100].map(|interval| {
        let lab = Lab::new(&format!("bell-interval-{interval}"));
        let mut daemon = lab.daemon(&["--shards", "1"]);
        let cameras = lab.cameras(&["--cameras", "4", "--bitrate", "1M"]);
        let ids: Vec<String> = (0..4).map(|index| format!("cam{index}")).collect();
        for id in &ids {
            lab.setup(id, &cameras.url(id));
        }
        let (interval, count) = (interval.to_string(), "1000");
        let mut arguments = vec!["--stamp", "--json", "--count", count, "--bell-interval", &interval];
        arguments.extend(ids.iter().map(String::as_str));
        let mut tap: Tap = lab.tap(&arguments).into();
        assert!(tap.process.wait_for_end(SOON + SOON).success());
        for (id, summary) in &tap.summaries() {
            assert_flawless(id, summary);
        }
        let wakes = lab.ctl_json(&["info"])["shard_stats"][0]["reader_wakes"].as_u64().unwrap();
        assert!(daemon.terminate().success());
        wakes
    });
    // A thousand units of four cameras in ten seconds: each a turn of its own, or ten turns a second.
    assert!(wakes[0] > 3 * wakes[1] && wakes[1] > 0, "{wakes:?}");
}
