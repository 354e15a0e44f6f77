//! Promise: what real cameras do wrong costs at most the unit that it is done to, and never the session; what ends a
//! session is told in a word. Row numbers are those of `docs/cameras.md`; `vms-camsim --fault list` says what each fault is.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::{Cameras, Lab, SOON, Tap, program, run};

/// Units of a session: the camera stalls behind them.
const UNITS: u64 = 60;
/// Units that must come whole.
const UNITS_MIN: u64 = 59;

/// Rows 1 to 18: bytes between frames, frames that are none, channels, packets of other sessions.
const FRAMING: &[&str] = &[
    "garbage=40",
    "false-frames=40",
    "line-ends",
    "stray-answer",
    "server-request",
    "early-media",
    "unknown-channel",
    "reports-on-rtp",
    "channels",
    "odd-channels",
    "big-packets",
    "empty-frames",
    "cut-frame=40",
    "cut-and-repeat=40",
    "old-session",
    "old-video=1",
];

/// Rows 14 to 38: answers, sessions, transports. A keepalive is sent each second.
const HANDSHAKE: &[&str] = &[
    "options-404",
    "keepalive-400",
    "keepalive-551",
    "keepalive-silence",
    "no-get-parameter",
    "redirect",
    "wants-user-agent",
    "wants-cseq",
    "wants-describe",
    "wants-no-mode",
    "wants-base-url",
    "lf-only",
    "status-zero",
    "no-reason",
    "other-version",
    "blank-colon",
    "cseq-wrong",
    "cseq-missing",
    "needs-keepalive=3",
    "slow-answers=200",
];

/// Rows 24 to 43: sessions, transports, logins.
const SESSION: &[&str] = &[
    "session-blank",
    "session-zero",
    "session-extra",
    "session-bare",
    "session-other",
    "no-session",
    "no-transport",
    "one-channel",
    "avp",
    "transport-order",
    "ssrc-odd",
    "rtp-info-odd",
    "no-rtp-info",
    "two-challenges",
    "rfc-2069",
    "stale-nonce",
];

/// Rows 39 and 45 to 54: where everything is, and the SDP.
const DESCRIPTION: &[&str] = &[
    "no-content-base",
    "base-schemeless",
    "base-doubled",
    "base-elsewhere",
    "base-query",
    "no-content-type",
    "content-type-odd",
    "control-absolute",
    "control-star",
    "control-missing",
    "backchannel",
    "sendonly",
    "sdp-odd",
    "rtpmap-blank",
    "fmtp-empty",
    "fmtp-semicolon",
    "no-sprop",
    "sprop-bad",
    "sprop-annexb",
    "sprop-other",
    "sprop-part",
    "mode-missing",
    "mode-zero",
];

/// Rows 55 to 72: RTP headers, clocks, RTCP.
const RTP: &[&str] = &[
    "ssrc-change=20",
    "sequence-jump=40",
    "sequence-back=40",
    "timestamp-jump=40",
    "timestamp-back=40",
    "timestamp-zero",
    "timestamp-outlier=40",
    "timestamp-constant",
    "same-timestamp=40",
    "duplicate",
    "other-type",
    "rtp-extras",
    "no-reports",
    "reports-1970",
    "reports-of-other",
    "bad-reports",
    "bye=40",
    "no-marker",
    "early-marker",
    "sets-of-before",
];

/// Rows 73 to 84: payloads and parameter sets.
const PAYLOADS: &[&str] = &[
    "lone-fragment",
    "endless-fragment=40",
    "lost-end=50",
    "empty-fragment",
    "whole-fragments",
    "type-in-fragment",
    "annexb",
    "annexb-start",
    "stap-padding",
    "bad-nals",
    "extra-nals",
    "sets-in-sdp",
    "sets-once",
    "resolution-change=20",
    "sps-junk",
    "huge-unit=40",
];

/// What ends a session, or lets none begin: the fault, and the state and reason that are told.
const ENDS: &[(&str, &str, &str)] = &[
    ("setup-status=453", "backoff", "session_limit"),
    ("session-limit=0", "backoff", "session_limit"),
    ("setup-status=461", "unsupported", "unsupported_transport"),
    ("udp", "unsupported", "unsupported_transport"),
    ("play-status=500", "backoff", "request_refused"),
    ("wrong-password", "auth_failed", "auth_refused"),
    ("close-after=20", "backoff", "connection_closed"),
    ("reset-after=20", "backoff", "connection_lost"),
    ("close@500ms/1s", "backoff", "connection_closed"),
    ("reset@500ms/1s", "backoff", "connection_lost"),
    ("stall-after=20", "stalled", "no_video_data"),
    ("stall", "backoff", "no_first_frame"),
    ("mute", "backoff", "reply_timeout"),
    ("refuse", "backoff", "connect_refused"),
    ("power-cut", "backoff", "connect_refused"),
];

/// Faults whose effect another test shows.
const ELSEWHERE: &[(&str, &str)] = &[
    ("status", "refusals.rs"),
    ("no-video", "refusals.rs"),
    ("codec", "refusals.rs"),
    ("huge-header", "refusals.rs"),
    ("huge-body", "refusals.rs"),
    ("endless-header", "refusals.rs"),
    ("endless-fu", "refusals.rs"),
    ("lose", "reconnect.rs"),
    ("corrupt", "below"),
    ("options-silence", "below"),
    ("needs-reports", "below"),
];

#[test]
fn no_fault_is_left_out() {
    let list = String::from_utf8(run(program("vms-camsim"), ["--fault", "list"])).unwrap_or_default();
    let ours: Vec<&str> = [FRAMING, HANDSHAKE, SESSION, DESCRIPTION, RTP, PAYLOADS].concat();
    let ours = ours.into_iter().chain(ENDS.iter().map(|end| end.0)).chain(ELSEWHERE.iter().map(|one| one.0));
    let mut ours: Vec<&str> = ours.map(name).collect();
    let mut all: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    ours.sort_unstable();
    all.sort_unstable();
    ours.dedup();
    assert_eq!(ours, all);
}

#[test]
fn framing() {
    each_keeps_its_session("framing", FRAMING);
}

#[test]
fn handshakes() {
    each_keeps_its_session("handshake", HANDSHAKE);
}

#[test]
fn sessions_and_logins() {
    each_keeps_its_session("session", SESSION);
}

#[test]
fn descriptions() {
    each_keeps_its_session("description", DESCRIPTION);
}

#[test]
fn rtp_and_rtcp() {
    each_keeps_its_session("rtp", RTP);
}

#[test]
fn payloads() {
    each_keeps_its_session("payloads", PAYLOADS);
}

#[test]
fn what_ends_a_session_is_told() {
    let lab = Lab::new("quirk-ends");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();
    let count = ENDS.len().to_string();
    let faults = faults(ENDS.iter().enumerate().map(|(index, end)| format!("cam{index}:{}", end.0)));
    let arguments = [&["--own-ports", "--cameras", &count][..], &LOGIN, &as_str(&faults)].concat();
    let farm = lab.cameras(&arguments);
    let addresses: Vec<String> = (0..ENDS.len()).map(|index| own_address(&farm, index)).collect();
    for (index, address) in addresses.iter().enumerate() {
        lab.setup(&format!("cam{index}"), &format!("rtsp://quirk:quirk@{address}/cam{index}"));
    }
    for (index, (fault, state, reason)) in ENDS.iter().enumerate() {
        let stream = watch.wait_for_state(&format!("cam{index}"), state);
        assert_eq!(stream["reason"], *reason, "{fault}: {stream:#}");
    }
}

/// A camera that hangs up on who sends no receiver reports within six seconds, one that takes no OPTIONS, and one whose
/// packets are changed on their way.
#[test]
fn what_takes_longer() {
    let lab = Lab::new("quirk-long");
    let _daemon = lab.daemon(&[]);
    let faults =
        ["--fault", "cam0:needs-reports=6", "--fault", "cam1:options-silence", "--fault", "cam2:corrupt=50"];
    let farm = lab.cameras(&[&["--cameras", "3"][..], &faults].concat());
    for id in ["cam0", "cam1", "cam2"] {
        lab.setup(id, &farm.url(id));
    }
    let mut tap: Tap =
        lab.tap(&["cam0", "cam1", "cam2", "--stamp", "--json", "--from", "oldest", "--count", "650"]).into();
    assert!(tap.process.wait_for_end(SOON + Duration::from_secs(20)).code().is_some());
    let summaries = tap.summaries();
    let stats = farm.stop();
    for id in ["cam0", "cam1", "cam2"] {
        assert_eq!(stats["cameras"][id]["plays"], 1, "{id}: {stats:#}");
        let stamps = &summaries[id]["stamps"];
        let is_corrupt = id == "cam2";
        assert_eq!(stamps["corrupt"] != 0, is_corrupt, "{id}: {stamps}");
        assert_eq!(stamps["absent"], 0, "{id}: {stamps}");
    }
    // More than six seconds of it.
    assert!(summaries["cam0"]["units"].as_u64() > Some(175), "{summaries:#?}");
}

/// Each fault on two cameras, H.264 and H.265: of sixty units 59 are read whole, in one session.
fn each_keeps_its_session(lab: &str, quirks: &[&str]) {
    let failures = run_all(lab, quirks).into_iter().filter(|outcome| {
        !outcome.keeps || !(UNITS_MIN..=UNITS).contains(&outcome.good) || outcome.unflagged > 0
    });
    let failures: Vec<String> = failures.map(|outcome| outcome.report).collect();
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

/// What became of a camera's first sixty units.
struct Outcome {
    /// They came in one session.
    keeps: bool,
    /// Read, and whole.
    good: u64,
    /// Read, not whole, and not flagged so.
    unflagged: u64,
    report: String,
}

fn run_all(lab: &str, quirks: &[&str]) -> Vec<Outcome> {
    let lab = Lab::new(&format!("quirk-{lab}"));
    let _daemon = lab.daemon(&[]);
    let count = (2 * quirks.len()).to_string();
    let spread = quirks
        .iter()
        .enumerate()
        .map(|(index, quirk)| format!("cam{},cam{}:{quirk}", 2 * index, 2 * index + 1));
    let faults = faults(spread.chain([format!("stall-after={UNITS}")]));
    // A client sends keepalives in half the session's time.
    let arguments = ["--truth", "--session-timeout", "2", "--cameras", &count];
    let farm = lab.cameras(&[&arguments[..], &LOGIN, &as_str(&faults)].concat());
    let ids: Vec<String> = (0..2 * quirks.len()).map(|index| format!("cam{index}")).collect();
    // A reader for each: it ends when its camera has stalled, and before the daemon gives the camera up and comes again.
    let options = ["--stamp", "--summary", "--from", "oldest", "--count", "60", "--idle-exit", "6"];
    let taps: Vec<Tap> = ids
        .iter()
        .map(|id| {
            lab.setup(id, &format!("rtsp://quirk:quirk@{}/{id}", farm.address));
            lab.tap(&[&options[..], &[id.as_str()]].concat()).into()
        })
        .collect();
    let summaries: Vec<Value> = taps
        .into_iter()
        .zip(&ids)
        .map(|(mut tap, id)| {
            tap.process.wait_for_end(SOON + SOON);
            tap.summaries().remove(id).unwrap_or_default()
        })
        .collect();
    let facts = end(farm);

    let quirks = quirks.iter().flat_map(|quirk| [quirk; 2]);
    let outcomes = quirks.zip(ids).zip(summaries).map(|((quirk, id), summary)| {
        let of_camera = facts.iter().filter(|fact| fact["camera"] == id.as_str());
        let closed: Vec<&Value> = of_camera.filter(|fact| fact["truth"] == "closed").collect();
        let count = |name: &str| summary["stamps"][name].as_u64().unwrap_or_default();
        Outcome {
            // A redirect and the like end connections on which nothing was sent.
            keeps: closed.iter().all(|fact| fact["units"] == 0 || fact["units"] == UNITS),
            good: count("good"),
            unflagged: count("unflagged"),
            report: format!(
                "{quirk} ({id}): {} damaged, {} {closed:?}",
                summary["damaged"], summary["stamps"]
            ),
        }
    });
    outcomes.collect()
}

/// Ends a farm and gives the facts that it told.
fn end(mut farm: Cameras) -> Vec<Value> {
    assert!(farm.process.terminate().success(), "{}", farm.process.log());
    let lines = farm.process.rest();
    lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Without its value.
fn name(fault: &'static str) -> &'static str {
    fault.split(['=', '@']).next().unwrap_or_default()
}

fn faults(all: impl Iterator<Item = String>) -> Vec<String> {
    all.flat_map(|fault| ["--fault".to_owned(), fault]).collect()
}

fn as_str(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// Where the camera can be found alone.
fn own_address(farm: &Cameras, index: usize) -> String {
    let prefix = format!("cam{index} at ");
    let line = farm.process.wait_for_line("its ports", SOON, |line| line.starts_with(&prefix));
    line[prefix.len()..].to_owned()
}

const LOGIN: [&str; 4] = ["--user", "quirk", "--password", "quirk"];
