//! Promise: cameras come and go while others stream, and nothing is left over.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;

use rustix::process::{Pid, Signal};
use support::{Lab, SOON, Tap, assert_flawless, now};

const STEADY: usize = 8;
const ROUNDS: usize = 200;
/// The reader's session page and cursor, and each stream's segment. Its rings are mapped, their descriptors sent and closed.
const STEADY_MEMFDS: usize = 2 + STEADY;

#[test]
fn adding_and_removing_200_times_disturbs_nobody_and_leaves_nothing() {
    let lab = Lab::new("churn");
    let mut daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&["--cameras", "16", "--bitrate", "1M"]);
    let steady: Vec<String> = (0..STEADY).map(|index| format!("cam{index}")).collect();
    for id in &steady {
        lab.setup(id, &cameras.url(id));
    }
    let mut arguments = vec!["--stamp", "--json", "--from", "oldest"];
    arguments.extend(steady.iter().map(String::as_str));
    let mut tap: Tap = lab.tap(&arguments).into();
    tap.take_records(STEADY * 25, SOON);
    let mut watch = lab.watch();
    // One round first: what is allocated once, is.
    round(&lab, &mut watch, &cameras, 0);
    let before = Footprint::settled(&lab, daemon.pid(), |now| now.memfds == STEADY_MEMFDS);

    for number in 1..=ROUNDS {
        round(&lab, &mut watch, &cameras, number);
    }

    tap.take_records(STEADY * 25, SOON);
    // What the first round left may still have been going when it was counted.
    let is_as_before = |now: &Footprint| {
        now.memfds == before.memfds && now.files <= before.files && now.threads <= before.threads
    };
    let after = Footprint::settled(&lab, daemon.pid(), is_as_before);
    // The allocator may keep a little: ten KiB for each of two hundred streams.
    assert!(
        after.resident_kib <= before.resident_kib + 2048,
        "{} KiB, then {} KiB",
        before.resident_kib,
        after.resident_kib
    );

    tap.process.signal(Signal::TERM);
    assert!(tap.process.wait_for_end(SOON).success(), "a steady stream lost units");
    for (id, summary) in tap.summaries() {
        assert_flawless(&id, &summary);
    }
    assert!(daemon.terminate().success());
}

/// Adds a stream and removes it: at once, or when it streams, so that every phase of a connection is cut.
fn round(lab: &Lab, watch: &mut support::Watch, cameras: &support::Cameras, number: usize) {
    let id = format!("guest{number}");
    lab.setup(&id, &cameras.url(&format!("cam{}", 8 + number % 8)));
    if number.is_multiple_of(2) {
        watch.wait_for_state(&id, "streaming");
    }
    let output = lab.ctl(&["teardown", &id]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    watch.wait_for_removal(&id);
}

#[derive(Debug)]
struct Footprint {
    files: usize,
    memfds: usize,
    threads: usize,
    resident_kib: u64,
}

impl Footprint {
    /// Waits until the daemon's footprint is as expected: a removed stream's segment lives until its camera has said
    /// goodbye and its readers are gone, at most a second or two.
    fn settled(lab: &Lab, pid: Pid, is_expected: impl Fn(&Self) -> bool) -> Self {
        let end = now() + SOON;
        loop {
            let footprint = Self::of(pid);
            if is_expected(&footprint) {
                return footprint;
            }
            assert!(now() < end, "left over: {footprint:?}");
            // A call that the daemon answers in its turn paces the loop.
            lab.ctl_json(&["info"]);
        }
    }

    fn of(pid: Pid) -> Self {
        let proc = format!("/proc/{}", pid.as_raw_nonzero());
        let links: Vec<_> = fs::read_dir(format!("{proc}/fd"))
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .collect();
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        // Shared segments are counted as memfds; this is what the daemon keeps for itself.
        let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        Self {
            files: links.len(),
            memfds: links.iter().filter(|link| link.to_string_lossy().contains("memfd:")).count(),
            threads: fs::read_dir(format!("{proc}/task")).unwrap().count(),
            resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
        }
    }
}
