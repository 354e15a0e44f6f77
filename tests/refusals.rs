//! Promise: whatever is wrong with a camera, the stream's state says what, and what to do; memory stays bounded.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use rustix::process::Pid;
use serde_json::Value;
use support::{Cameras, Lab};

/// What a camera does wrong, and what the operator must read.
struct Case {
    /// Arguments of the simulator.
    camera: &'static [&'static str],
    state: &'static str,
    reason: &'static str,
    /// A part of the advice.
    advice: &'static str,
}

const CASES: &[Case] = &[
    case(&["--fault", "status=401"], "auth_failed", "auth_refused", "user name"),
    case(&["--user", "operator", "--password", "right"], "auth_failed", "auth_refused", "none are set"),
    case(&["--fault", "status=403"], "backoff", "forbidden", "rights"),
    case(&["--fault", "status=404"], "backoff", "not_found", "path"),
    case(&["--fault", "status=453"], "backoff", "session_limit", "close other viewers"),
    case(&["--fault", "status=503"], "backoff", "service_unavailable", "overloaded"),
    case(&["--fault", "status=500"], "backoff", "request_refused", "DESCRIBE"),
    case(&["--fault", "no-video"], "unsupported", "no_video", "video stream"),
    case(&["--fault", "codec=VP8"], "unsupported", "unsupported_codec", "change the codec"),
    case(&["--fault", "huge-header"], "backoff", "limit_exceeded", "more than a camera may"),
    case(&["--fault", "endless-header"], "backoff", "limit_exceeded", "more than a camera may"),
    case(&["--fault", "huge-body"], "backoff", "limit_exceeded", "more than a camera may"),
    case(&["--fault", "endless-fu"], "backoff", "limit_exceeded", "lower its bit rate"),
];

const fn case(
    camera: &'static [&'static str],
    state: &'static str,
    reason: &'static str,
    advice: &'static str,
) -> Case {
    Case { camera, state, reason, advice }
}

#[test]
fn every_refusal_is_a_state_with_advice_and_bounded_memory() {
    let lab = Lab::new("refusals");
    let mut daemon = lab.daemon(&[]);
    let good = lab.cameras(&[]);
    lab.setup("good", &good.url("h264"));
    let mut watch = lab.watch();
    watch.wait_for_state("good", "streaming");
    let before = resident_kib(daemon.pid());

    let farms: Vec<Cameras> = CASES.iter().map(|case| lab.cameras(case.camera)).collect();
    for (number, farm) in farms.iter().enumerate() {
        lab.setup(&format!("case{number}"), &farm.url("h264"));
    }
    for (number, case) in CASES.iter().enumerate() {
        let stream = watch.wait_for_state(&format!("case{number}"), case.state);
        check(&stream, case.reason, case.advice);
    }

    // Sixteen arenas of 8 MiB are shared memory and counted apart; what the cameras made the daemon keep is not.
    let grown = resident_kib(daemon.pid()).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB of private memory for {} refusals", CASES.len());
    assert_eq!(lab.ctl_json(&["get", "good"])["state"], "streaming");
    assert!(daemon.terminate().success());
}

#[test]
fn hosts_that_are_no_camera_are_named() {
    let lab = Lab::new("no-camera");
    let _daemon = lab.daemon(&[]);
    let mut watch = lab.watch();

    lab.setup("nowhere", "rtsp://camera.invalid/stream");
    check(&watch.wait_for_state("nowhere", "backoff"), "resolve_failed", "DNS");

    let free_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    lab.setup("refused", &format!("rtsp://{free_port}/stream"));
    check(&watch.wait_for_state("refused", "backoff"), "connect_refused", "RTSP is enabled");

    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = web.local_addr().unwrap();
    let server = std::thread::spawn(move || answer_as_a_web_server(&web));
    lab.setup("web", &format!("rtsp://{address}/stream"));
    check(&watch.wait_for_state("web", "backoff"), "not_rtsp", "check the port");
    server.join().unwrap();

    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = elsewhere.local_addr().unwrap();
    let server =
        std::thread::spawn(move || answer_with_a_redirect(&elsewhere, "http://127.0.0.1/stream.mp4"));
    lab.setup("elsewhere", &format!("rtsp://{address}/stream"));
    check(&watch.wait_for_state("elsewhere", "unsupported"), "unsupported_transport", "scheme http");
    server.join().unwrap();

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    lab.setup("silent", &format!("rtsp://{}/stream", silent.local_addr().unwrap()));
    check(&watch.wait_for_state("silent", "backoff"), "reply_timeout", "did not answer");
}

#[test]
fn what_is_no_camera_url_is_refused_at_once() {
    let lab = Lab::new("bad-urls");
    let _daemon = lab.daemon(&[]);
    for (url, advice) in [
        ("http://camera/stream", "rtsp"),
        ("file:///etc/passwd", "rtsp"),
        ("rtsp://", "host"),
        ("camera", "rtsp"),
    ] {
        let output = lab.ctl(&["setup", "bad", url]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{url}: {text}");
        assert!(text.starts_with("error: ") && text.contains(advice), "{url}: {text}");
    }
    let output = lab.ctl(&["setup", "No/Such-Id", "rtsp://camera/stream"]);
    assert_eq!(output.status.code(), Some(1));
}

fn check(stream: &Value, reason: &str, advice: &str) {
    assert_eq!(stream["reason"], reason, "{stream:#}");
    let detail = stream["detail"].as_str().unwrap();
    assert!(detail.contains(advice), "{reason}: {detail:?} does not say {advice:?}");
}

fn answer_as_a_web_server(listener: &TcpListener) {
    let (mut client, _) = listener.accept().unwrap();
    let mut request = [0; 1024];
    let _ = client.read(&mut request);
    let page = "<html><body>It works!</body></html>";
    let _ = write!(client, "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\n\r\n{page}", page.len());
    let _ = client.read(&mut request);
}

/// The address of a camera's web page where that of its stream belongs: what some answer while they upgrade.
fn answer_with_a_redirect(listener: &TcpListener, location: &str) {
    let (client, _) = listener.accept().unwrap();
    let mut lines = BufReader::new(&client).lines().map_while(Result::ok);
    while let Some(sequence) = lines.find_map(|line| line.strip_prefix("CSeq: ").map(str::to_owned)) {
        let _ = write!(&client, "RTSP/1.0 302 Found\r\nCSeq: {sequence}\r\nLocation: {location}\r\n\r\n");
    }
}

/// Private memory: `RssAnon` of `/proc/PID/status`, which leaves shared segments and files out.
fn resident_kib(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
