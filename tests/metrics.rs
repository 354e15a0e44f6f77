//! Promise: `--http` tells what the API tells, in a form that every scraper reads; whether the daemon lives and is ready; no
//! secrets; and nobody who connects there is in anybody's way.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod scrape;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;
use scrape::{Metrics, ask, connect};
use serde_json::Value;
use support::{Lab, Process, SOON, Tap, now};
use vms_media::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEAD_LEN_MAX, HTTP_HEAD_TIMEOUT};

const CANARY: &str = "CaNaRy7f3a";
/// A label that the caller of the API gave a stream.
const NOTE: &str = "back door";
const PATHS: [&str; 3] = ["/metrics", "/healthz", "/readyz"];

#[test]
fn metrics_equal_what_the_api_says() {
    let lab = Lab::new("metrics");
    let (_daemon, address) = daemon(&lab, &[]);
    let cameras = lab.cameras(&["--user", "operator", "--password", CANARY, "--auth", "digest"]);
    let url = |password: &str| format!("rtsp://operator:{password}@{}/h264", cameras.address);
    assert!(lab.ctl(&["setup", "cam", &url(CANARY), "--label", &format!("where={NOTE}")]).status.success());
    lab.setup("wrong", &url(&format!("{CANARY}-wrong")));
    let mut tap: Tap = lab.tap(&["--json", "--from", "oldest", "cam"]).into();
    tap.take_records(50, SOON);
    lab.watch().wait_for_state("wrong", "auth_failed");

    let (stream, before) = agreed(&lab, &address, &["get", "cam"], |stream| stream["stats"]["readers"] == 1);
    assert_stream(&before, "cam", &stream);
    assert!(before.value("vms_media_stream_units_total{stream=\"cam\"}") > 0.0);
    let [start, last] = ["start_time_seconds", "stream_last_unit_timestamp_seconds{stream=\"cam\"}"]
        .map(|name| before.value(&format!("vms_media_{name}")));
    assert!(start > 1.7e9 && last >= start, "{start} {last}");
    let reasons: Vec<_> = before.series("vms_media_stream_reason").collect();
    assert_eq!(reasons, ["vms_media_stream_reason{stream=\"wrong\",reason=\"auth_refused\"}"]);
    let failures: Vec<_> = before.series("vms_media_stream_failures_total").collect();
    assert_eq!(failures, ["vms_media_stream_failures_total{stream=\"wrong\",reason=\"auth_refused\"}"]);
    assert_eq!(before.text(failures[0]), "1");
    let states = [("streaming", 1.0), ("auth_failed", 1.0), ("backoff", 0.0)];
    for (state, count) in states {
        assert_eq!(before.value(&format!("vms_media_streams{{state=\"{state}\"}}")), count, "{state}");
    }
    assert_eq!(before.text("vms_media_reader_attachments"), "1");

    let (info, after) = agreed(&lab, &address, &["info"], |_| true);
    assert_daemon(&after, &info);
    tap.take_records(25, SOON);
    let units = "vms_media_stream_units_total{stream=\"cam\"}";
    let turns = "vms_media_shard_turns_total{shard=\"0\"}";
    until("counters that have moved", || {
        let later = Metrics::of(&address);
        later.value(units) > before.value(units) && later.value(turns) >= after.value(turns)
    });

    for path in PATHS {
        let told = ask(&address, "GET", path).raw;
        assert!(!told.contains(CANARY) && !told.contains(NOTE) && !told.contains("rtsp:"), "{path}: {told}");
    }
    lab.ctl(&["teardown", "cam"]);
    assert_eq!(Metrics::of(&address).series("vms_media_stream_units_total{stream=\"cam\"").count(), 0);
}

#[test]
fn the_back_end_that_was_asked_for_is_named() {
    let lab = Lab::new("metrics-io");
    let (_daemon, address) = daemon(&lab, &["--io", "epoll"]);
    let metrics = Metrics::of(&address);
    let infos: Vec<_> = metrics.series("vms_media_info{").collect();
    assert!(infos.len() == 1 && infos[0].contains("io_backend=\"epoll\""), "{infos:?}");
    assert_eq!(metrics.text("vms_media_io_fallback"), "0");
}

#[test]
fn a_daemon_that_stops_says_that_it_is_not_ready() {
    let lab = Lab::new("metrics-stop");
    let (mut daemon, address) = daemon(&lab, &[]);
    let cameras = lab.cameras(&[]);
    lab.setup("frozen", &cameras.url("h264"));
    lab.watch().wait_for_state("frozen", "streaming");
    for path in ["/healthz", "/readyz"] {
        let told = ask(&address, "GET", path);
        assert_eq!((told.status, told.body.as_str()), (200, "ok\n"), "{path}");
    }

    // A camera that does not answer TEARDOWN is waited for.
    cameras.process.signal(Signal::STOP);
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("stopping");
    let ready = ask(&address, "GET", "/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "the daemon is stopping\n"));
    assert_eq!(ask(&address, "GET", "/healthz").status, 200, "it lives");
    daemon.signal(Signal::INT);
    daemon.wait_for_end(SOON);
    assert!(TcpStream::connect(&address).is_err());
    cameras.process.signal(Signal::CONT);
}

#[test]
fn head_is_get_without_a_body_and_all_else_is_refused() {
    let lab = Lab::new("metrics-methods");
    let (_daemon, address) = daemon(&lab, &[]);
    for path in PATHS {
        let [get, head] = ["GET", "HEAD"].map(|method| ask(&address, method, path));
        assert_eq!((get.status, head.status, head.body.as_str()), (200, 200, ""), "{path}");
        assert_eq!(get.headers["content-type"], head.headers["content-type"], "{path}");
        assert!(!get.body.is_empty());
        let post = ask(&address, "POST", path);
        assert_eq!((post.status, post.headers["allow"].as_str()), (405, "GET, HEAD"), "{path}");
    }
    for path in ["/", "/metrics/x", "/vms.media.v1.MediaControl/ListStreams"] {
        assert_eq!(ask(&address, "GET", path).status, 404, "{path}");
    }
    // As `printf … | nc` does it: an old version, and nothing more to say.
    let mut old = connect(&address);
    old.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    old.shutdown(std::net::Shutdown::Write).unwrap();
    let mut told = String::new();
    old.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.0 200 OK\r\n") && told.ends_with("\r\n\r\nok\n"), "{told}");
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_at_the_start() {
    let lab = Lab::new("metrics-address");
    let (_daemon, address) = daemon(&lab, &[]);
    let other = Lab::new("metrics-address-taken");
    for (http, code, words) in [
        (address.as_str(), 1, ["cannot tell metrics at http://127.0.0.1:", "Address already in use"]),
        ("0.0.0.0:0", 2, ["--http 0.0.0.0:0: only loopback addresses", "tunnel"]),
        ("nowhere", 2, ["--http nowhere: write ADDR:PORT", "127.0.0.1:9464"]),
    ] {
        let mut refused = Process::spawn("vms-media", other.daemon_command(&["--http", http]));
        assert_eq!(refused.wait_for_end(SOON).code(), Some(code), "{http}");
        let told = refused.rest_of_log().join("\n");
        assert!(words.iter().all(|word| told.matches(word).count() == 1), "{http}: {told}");
        assert!(!told.contains("serve: ready") && !std::path::Path::new(&other.control_socket()).exists());
    }
    assert_eq!(ask(&address, "GET", "/readyz").status, 200);
}

#[test]
fn silent_and_wild_clients_are_dropped_and_keep_nobody_out() {
    let lab = Lab::new("metrics-wild");
    let (daemon, address) = daemon(&lab, &[]);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let before = descriptors();

    let endless = vec![b'x'; 4 * HTTP_HEAD_LEN_MAX];
    let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(HTTP_HEAD_LEN_MAX / 4));
    let long = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(4 * HTTP_HEAD_LEN_MAX));
    for wild in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".as_slice(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        &endless,
        many.as_bytes(),
        long.as_bytes(),
    ] {
        let told = said_to(&address, wild);
        let is_refusal = told.is_empty() || told.starts_with("HTTP/1.1 4");
        assert!(is_refusal, "{:?}: {told}", String::from_utf8_lossy(&wild[..wild.len().min(60)]));
        assert_eq!(ask(&address, "GET", "/readyz").status, 200);
    }

    // Twice as many as there are places, and each third has said half of what it wants.
    let mut silent: Vec<_> = (0..2 * HTTP_CONNECTIONS_MAX).map(|_| connect(&address)).collect();
    for mut half in silent.iter().step_by(3) {
        half.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
    }
    assert_eq!(lab.ctl_json(&["info"])["streams"], 0, "the API is not held up");
    // Again and again, as somebody would who wants to keep others out.
    for _ in 0..4 {
        let asked = now();
        assert_eq!(ask(&address, "GET", "/healthz").status, 200, "who comes gets a place");
        assert!(now() - asked < HTTP_HEAD_TIMEOUT, "the silent ones kept their places");
        silent.extend((0..HTTP_CONNECTIONS_MAX).map(|_| connect(&address)));
    }
    // Some are on their way out at any time; many times as many have come.
    assert!(descriptors() <= before + HTTP_CONNECTIONS_MAX + 8, "more were let in than there are places");
    for silent in &silent {
        let timeout = SOON.try_into().unwrap();
        assert_eq!(poll(&mut [PollFd::new(silent, PollFlags::RDHUP)], Some(&timeout)).unwrap(), 1);
    }
    until("descriptors that are given back", || descriptors() <= before);
}

/// A daemon with metrics, and where.
fn daemon(lab: &Lab, arguments: &[&str]) -> (Process, String) {
    let command = lab.daemon_command(&[&["--http", "127.0.0.1:0"], arguments].concat());
    let daemon = Process::spawn("vms-media", command);
    let line = daemon.wait_for_log("metrics at http://");
    let address = line.split("http://").nth(1).unwrap().strip_suffix("/metrics").unwrap().to_owned();
    daemon.wait_for_log("ready");
    (daemon, address)
}

/// What `vms-ctl` and the metrics say at a moment when counters stand still between two answers of `vms-ctl`.
fn agreed(lab: &Lab, address: &str, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> (Value, Metrics) {
    let mut found = None;
    until("two equal answers", || {
        let before = lab.ctl_json(arguments);
        let metrics = Metrics::of(address);
        if wanted(&before) && before == lab.ctl_json(arguments) {
            found = Some((before, metrics));
        }
        found.is_some()
    });
    found.unwrap()
}

/// Asks again until it is so. Each question costs a round trip or a process, so this does not spin.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = now() + SOON;
    while !is_so() {
        assert!(now() < end, "no {what} within {SOON:?}");
    }
}

fn assert_stream(metrics: &Metrics, id: &str, stream: &Value) {
    let (stats, track) = (&stream["stats"], &stream["tracks"][0]);
    for (name, value) in [
        ("units_total", &stats["units"]),
        ("key_units_total", &stats["key_units"]),
        ("bytes_total", &stats["bytes"]),
        ("lost_packets_total", &stats["lost_packets"]),
        ("damaged_units_total", &stats["damaged_units"]),
        ("dropped_units_total", &stats["dropped_units"]),
        ("resyncs_total", &stats["resyncs"]),
        ("skipped_bytes_total", &stats["skipped_bytes"]),
        ("failed_attempts_total", &stats["failures"]),
        ("reader_lost_units_total", &stats["reader_lost_units"]),
        ("readers", &stats["readers"]),
        ("reconnects_total", &stream["reconnects"]),
        ("shard", &stream["shard"]),
        ("width_pixels", &track["width"]),
        ("height_pixels", &track["height"]),
    ] {
        let series = format!("vms_media_stream_{name}{{stream=\"{id}\"}}");
        assert_eq!(metrics.text(&series), value.to_string(), "{series}");
    }
    let prefix = format!("vms_media_stream_state{{stream=\"{id}\",");
    let states: Vec<_> = metrics.series(&prefix).filter(|series| metrics.text(series) == "1").collect();
    assert_eq!(states, [format!("{prefix}state=\"{}\"}}", stream["state"].as_str().unwrap())]);
    metrics.value(&format!(
        "vms_media_stream_codec{{stream=\"{id}\",codec=\"{}\"}}",
        track["codec"].as_str().unwrap()
    ));
}

fn assert_daemon(metrics: &Metrics, info: &Value) {
    let text = |field: &str| info[field].as_str().unwrap();
    let (version, backend, abi) = (text("version"), text("io_backend"), text("ring_abi_version"));
    let name = format!("vms_media_info{{version=\"{version}\",io_backend=\"{backend}\",abi=\"{abi}\"}}");
    assert_eq!(metrics.text(&name), "1");
    let is_fallback = u8::from(!text("io_backend_reason").is_empty());
    assert_eq!(metrics.text("vms_media_io_fallback"), is_fallback.to_string());
    for (name, field) in [
        ("streams_max", "streams_max"),
        ("arena_page_bytes", "arena_page_bytes"),
        ("stream_memory_max_bytes", "stream_memory_bytes_max"),
    ] {
        assert_eq!(metrics.text(&format!("vms_media_{name}")), info[field].to_string(), "{name}");
    }
    let memory = metrics.value("vms_media_stream_memory_bytes");
    assert!(memory > 16e6 && memory < 18e6, "two streams take {memory}");
    for (index, shard) in info["shard_stats"].as_array().unwrap().iter().enumerate() {
        for (name, field) in [
            ("streams", "streams"),
            ("waiting_connects", "waiting_connects"),
            ("turns_total", "turns"),
            ("wake_ups_total", "wake_ups"),
            ("system_calls_total", "system_calls"),
            ("completions_total", "completions"),
            ("received_bytes_total", "received_bytes"),
            ("reader_wakes_total", "reader_wakes"),
            ("receives_without_buffer_total", "out_of_buffers"),
            ("rearms_total", "rearms"),
            ("overruns_total", "overruns"),
        ] {
            let series = format!("vms_media_shard_{name}{{shard=\"{index}\"}}");
            assert_eq!(metrics.text(&series), shard[field].to_string(), "{series}");
        }
        let cpu = metrics.text(&format!("vms_media_shard_cpu_seconds_total{{shard=\"{index}\"}}"));
        assert_eq!(cpu.replace('.', "").parse::<u64>().unwrap(), shard["cpu_ns"].as_u64().unwrap());
    }
    let shards = info["shards"].as_u64().unwrap();
    assert_eq!(metrics.series("vms_media_shard_turns_total").count() as u64, shards);
}

/// What is answered to `bytes` until the connection ends. A reset is an end: who sends more than is read gets one.
fn said_to(address: &str, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    let _ = stream.write_all(bytes);
    let mut told = Vec::new();
    if let Err(error) = stream.read_to_end(&mut told) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the connection was not ended");
    }
    String::from_utf8(told).unwrap()
}
