//! Promise: the control plane keeps its word as `media.proto` gives it: repeating a call changes nothing, every error
//! has its reason, a watcher misses nothing and holds up nobody.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags};
use support::{Lab, Process, SOON, Tap, assert_flawless};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status, Streaming};
use tonic_types::StatusExt;
use vms_media::limits::CALLERS_MAX;
use vms_proto::v1;
use vms_proto::v1::media_control_client::MediaControlClient;

/// A camera that refuses connections: nothing listens at the port of tcpmux.
const NOBODY: &str = "rtsp://127.0.0.1:1/";

#[test]
fn repeating_a_call_changes_nothing() {
    let lab = Lab::new("idempotent");
    let _daemon = lab.daemon(&[]);
    let cameras = lab.cameras(&[]);
    let mut watch = lab.watch();
    let (url, secret) = (cameras.url("h264"), format!("rtsp://u:canary@{}/h264", cameras.address));
    assert_eq!(lab.ctl_json(&["setup", "cam", &secret])["created"], true);
    watch.wait_for_state("cam", "streaming");
    let mut tap: Tap = lab.tap(&["cam", "--stamp", "--json", "--from", "oldest"]).into();
    tap.take_records(10, SOON);
    let before = lab.ctl_json(&["get", "cam"]);

    let again = lab.ctl_json(&["setup", "cam", &secret]);
    assert_eq!(again["created"], false);
    assert_eq!(again["stream"]["url"], url, "without user and password");
    let other_label = ["setup", "cam", &secret, "--label", "site=x"];
    for (arguments, field) in [
        (&["setup", "cam", &cameras.url("h265")][..], "url"),
        (&["setup", "cam", &url], "credentials"),
        (&["setup", "cam", &secret, "--transport", "tcp"], "transport"),
        (&other_label, "labels"),
    ] {
        let output = lab.ctl(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{field}: {text}");
        assert!(text.contains("STREAM_SPEC_CONFLICT") && text.contains(field), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    tap.take_records(10, SOON);
    let after = lab.ctl_json(&["get", "cam"]);
    for field in ["state_since", "create_time", "revision", "etag", "state", "url"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(lab.ctl_json(&["teardown", "cam"])["existed"], true);
    assert!(tap.process.wait_for_end(SOON).success(), "the reader is told");
    assert_eq!(lab.ctl_json(&["teardown", "cam"])["existed"], false);
    assert_eq!(lab.ctl_json(&["setup", "cam", NOBODY])["created"], true, "the id is free");
    let stats = cameras.stop();
    assert_eq!((&stats["connects"], &stats["cameras"]["h264"]["plays"]), (&1.into(), &1.into()), "{stats}");
}

#[tokio::test]
async fn every_refusal_has_its_code_and_reason() {
    let lab = Lab::new("refused-calls");
    let _daemon = lab.daemon(&[]);
    let mut client = connect(&lab).await;
    let mut setup = async |id: &str, spec: v1::StreamSpec| {
        let request = v1::SetupStreamRequest { id: id.to_owned(), spec: Some(spec), ..Default::default() };
        why(&client.setup_stream(request).await.unwrap_err())
    };
    let spec = |url: &str| v1::StreamSpec { url: url.to_owned(), ..Default::default() };
    let invalid = |reason: &str| (Code::InvalidArgument, reason.to_owned());
    let long = "a".repeat(64);
    for id in ["", "A", "-a", ".", "..", "../etc", "a/b", "a b", "é", &long] {
        assert_eq!(setup(id, spec(NOBODY)).await, invalid("INVALID_STREAM_ID"), "{id:?}");
    }
    assert_eq!(setup("a", spec("rtsp://")).await, invalid("INVALID_URL"));
    assert_eq!(setup("a", spec("exec:ls")).await, invalid("UNSUPPORTED_SCHEME"));
    let labels = BTreeMap::from([("not a key".to_owned(), String::new())]);
    assert_eq!(setup("a", v1::StreamSpec { labels, ..spec(NOBODY) }).await, invalid("INVALID_ARGUMENT"));
    let udp = v1::StreamSpec { transport: v1::Transport::Udp.into(), ..spec(NOBODY) };
    assert_eq!(setup("a", udp).await, (Code::Unimplemented, "NOT_AVAILABLE".to_owned()));

    let missing = client.get_stream(v1::GetStreamRequest { id: "a".to_owned() }).await.unwrap_err();
    assert_eq!(why(&missing), (Code::NotFound, "STREAM_NOT_FOUND".to_owned()));
    let bad_page = v1::ListStreamsRequest { page_size: -1, page_token: String::new() };
    assert_eq!(why(&client.list_streams(bad_page).await.unwrap_err()), invalid("INVALID_ARGUMENT"));
    assert!(list(&mut client, 0).await.is_empty(), "a refused stream is not there");

    let output = lab.ctl(&["setup", "a", NOBODY, "--transport", "udp"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("UDP is not available yet"), "{text}");
}

/// Ids that are set up at the same time, each by two callers: no more calls than one connection may have in flight.
const TOGETHER: usize = 48;

#[tokio::test]
async fn streams_that_are_set_up_at_the_same_time_are_all_made_and_each_once() {
    let lab = Lab::new("together");
    let _daemon = lab.daemon(&[]);
    let mut client = connect(&lab).await;
    let info = client.get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    let limits = info.limits.unwrap();
    assert!(limits.stream_memory_bytes_max > limits.unit_bytes_max * TOGETHER as u64, "{limits:?}");
    let ids: Vec<String> = (0..TOGETHER).map(|number| format!("cam{number:02}")).collect();

    let mut calls: JoinSet<_> = ids.iter().chain(&ids).map(|id| ask_for(&client, id)).collect();
    let (mut created, mut found) = (Vec::new(), Vec::new());
    while let Some(call) = timeout(SOON, calls.join_next()).await.unwrap() {
        let answer = call.unwrap().unwrap().into_inner();
        if answer.created { &mut created } else { &mut found }.push(answer.stream.unwrap().stream_id);
    }
    created.sort();
    found.sort();
    assert_eq!((&created, &found), (&ids, &ids), "of two calls one creates");
    assert_eq!(list(&mut client, 0).await, ids);

    // Callers that go away: what they began is given up or is there, and the next caller gets the stream either way.
    let guests: Vec<String> = (0..TOGETHER).map(|number| format!("guest{number:02}")).collect();
    let mut gone: JoinSet<_> = guests.iter().map(|id| ask_for(&client, id)).collect();
    assert!(gone.join_next().await.unwrap().unwrap().is_ok(), "the others are on their way");
    gone.shutdown().await;
    let mut calls: JoinSet<_> = guests.iter().map(|id| ask_for(&client, id)).collect();
    while let Some(call) = timeout(SOON, calls.join_next()).await.unwrap() {
        assert!(call.unwrap().is_ok());
    }
    assert_eq!(list(&mut client, 0).await, [ids, guests].concat());
}

#[tokio::test]
async fn pages_are_in_the_order_of_ids_and_survive_changes() {
    let lab = Lab::new("pages");
    let _daemon = lab.daemon(&[]);
    let mut client = connect(&lab).await;
    let mut ids: Vec<String> = (0..25).map(|number| format!("cam{number}")).collect();
    for id in ids.iter().rev() {
        set_up(&mut client, id).await;
    }
    ids.sort();
    for size in [1, 10, 25, 1000, 0] {
        assert_eq!(list(&mut client, size).await, ids, "pages of {size}");
    }

    // The stream that the token names goes away between two pages.
    let request = v1::ListStreamsRequest { page_size: 10, page_token: String::new() };
    let first = client.list_streams(request).await.unwrap().into_inner();
    tear_down(&mut client, &ids[9]).await;
    let request = v1::ListStreamsRequest { page_size: 10, page_token: first.next_page_token };
    let second = client.list_streams(request).await.unwrap().into_inner();
    let names: Vec<_> = second.streams.into_iter().map(|stream| stream.stream_id).collect();
    assert_eq!(names, ids[10..20]);
}

#[tokio::test]
async fn a_watch_is_a_snapshot_a_bookmark_and_every_change() {
    let lab = Lab::new("watch");
    let _daemon = lab.daemon(&[]);
    let mut client = connect(&lab).await;
    set_up(&mut client, "a").await;
    let mut watch = watch_from(&mut client, 0).await;
    let snapshot = next(&mut watch).await.unwrap();
    assert_eq!((snapshot.r#type(), name(&snapshot)), (v1::EventType::Snapshot, "a"));
    let bookmark = next(&mut watch).await.unwrap();
    assert_eq!(bookmark.r#type(), v1::EventType::Bookmark);
    assert!(bookmark.revision >= snapshot.revision && bookmark.stream.is_none());

    set_up(&mut client, "b").await;
    tear_down(&mut client, "b").await;
    let mut seen = vec![bookmark.clone()];
    while seen.last().unwrap().r#type() != v1::EventType::Removed {
        seen.push(next(&mut watch).await.unwrap());
    }
    assert!(seen.windows(2).all(|pair| pair[1].revision == pair[0].revision + 1), "{seen:#?}");
    let of_b = seen.iter().filter(|event| name(event) == "b").collect::<Vec<_>>();
    assert_eq!(of_b[0].r#type(), v1::EventType::Created);
    assert_eq!(name(seen.last().unwrap()), "b");

    // Who comes back with a revision misses nothing.
    let mut later = watch_from(&mut client, bookmark.revision).await;
    for expected in &seen[1..] {
        let event = next(&mut later).await.unwrap();
        assert_eq!((event.r#type(), event.revision), (expected.r#type(), expected.revision));
    }
    // One from another life of the daemon begins anew.
    for unknown in [1, u64::MAX] {
        let mut lost = watch_from(&mut client, unknown).await;
        let event = next(&mut lost).await.unwrap();
        assert_eq!(event.r#type(), v1::EventType::Compacted);
        assert!(event.compact_revision > 0 && lost.message().await.unwrap().is_none());
    }
}

/// More than wait for a watcher in the daemon, in the connection and in the client together.
const EVENTS: u64 = 9_000;
/// Bytes that the slow watcher's connection takes before it is read: the least that HTTP/2 has.
const WINDOW: u32 = 65_535;
/// Streams that are there at the same time.
const BATCH: usize = 64;

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_and_disturbs_nobody() {
    let lab = Lab::new("slow-watcher");
    // Thousands of streams come and go: a line in the log for each would take the most time of all.
    let mut command = lab.daemon_command(&[]);
    command.env("VMS_LOG", "vms_media::control::serve=info");
    let daemon = Process::spawn("vms-media", command);
    daemon.wait_for_log("ready");
    let cameras = lab.cameras(&[]);
    lab.setup("good", &cameras.url("h264"));
    let mut tap: Tap = lab.tap(&["good", "--stamp", "--json", "--from", "oldest"]).into();
    tap.take_records(25, SOON);
    let mut client = connect(&lab).await;
    // A connection of its own, because calls on one connection share its window; and a small window.
    let endpoint = endpoint(&lab).initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let mut slow = MediaControlClient::new(endpoint.connect().await.unwrap());
    let mut slow = watch_from(&mut slow, 0).await;
    let mut quick = watch_from(&mut connect(&lab).await, 0).await;
    let mut revision = loop {
        let event = next(&mut quick).await.unwrap();
        if event.r#type() == v1::EventType::Bookmark {
            break event.revision;
        }
    };

    let end = revision + EVENTS;
    while revision < end {
        together(&client, async |client, id| set_up_with_notes(client, id).await).await;
        revision = see(&mut quick, revision, |event| state(event) == v1::State::Backoff).await;
        together(&client, async |client, id| tear_down(client, id).await).await;
        revision = see(&mut quick, revision, |event| event.r#type() == v1::EventType::Removed).await;
    }

    let cut = loop {
        match next(&mut slow).await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(why(&cut), (Code::ResourceExhausted, "SLOW_WATCHER".to_owned()));
    assert_eq!(list(&mut client, 0).await, ["good"]);
    tap.take_records(25, SOON);
    tap.process.signal(rustix::process::Signal::TERM);
    assert!(tap.process.wait_for_end(SOON).success());
    assert_flawless("good", &tap.summaries()["good"]);
}

#[tokio::test]
async fn loopback_tcp_is_served_and_open_tcp_is_refused() {
    let lab = Lab::new("tcp");
    let daemon = Process::spawn("vms-media", lab.daemon_command(&["--listen", "tcp:127.0.0.1:0"]));
    let ready = daemon.wait_for_log("ready");
    let (_, address) = ready.split_once("tcp:").unwrap();
    let address: String =
        address.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    set_up(&mut MediaControlClient::new(channel), "a").await;
    assert_eq!(lab.ctl_json(&["get", "a"])["stream_id"], "a", "both listeners are one daemon");
    let _crowd: Vec<_> = (0..CALLERS_MAX).map(|_| TcpStream::connect(&address).unwrap()).collect();
    daemon.wait_for_log("callers were turned away");
    assert_eq!(lab.ctl_json(&["get", "a"])["stream_id"], "a", "a crowd at one keeps nobody from the other");

    for open in ["tcp:0.0.0.0:0", "tcp:[::]:0"] {
        let mut refused = Process::spawn("vms-media", lab.daemon_command(&["--listen", open]));
        assert_eq!(refused.wait_for_end(SOON).code(), Some(2), "{open}");
        let text = refused.rest_of_log().join("\n");
        assert!(text.contains("only loopback addresses") && text.contains("unix socket"), "{open}: {text}");
    }
}

/// Connections that say nothing, and leave room for others.
const SILENT: usize = 200;

#[tokio::test]
async fn connections_that_say_nothing_are_few_and_end_and_keep_nobody_out() {
    let lab = Lab::new("silent-callers");
    let daemon = lab.daemon(&[]);
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    let before = descriptors();
    let mut speaking = connect(&lab).await;
    set_up(&mut speaking, "a").await;
    let knock = || UnixStream::connect(lab.control_socket()).unwrap();
    let silent: Vec<_> = (0..SILENT).map(|_| knock()).collect();
    // Half a preface is none.
    (&silent[0]).write_all(b"PRI * HTTP/2").unwrap();
    assert_eq!(list(&mut connect(&lab).await, 0).await, ["a"], "there is room for another caller");

    // All places taken: one more is closed at once, while those who are in stay.
    let crowd: Vec<_> = (0..CALLERS_MAX - SILENT + 1).map(|_| knock()).collect();
    assert!(is_closed(crowd.last().unwrap()), "one too many");
    daemon.wait_for_log("callers were turned away");
    let waiting = silent.iter().filter(|silent| !has_ended(silent)).count();
    assert_eq!(waiting, SILENT, "not before their time");

    for silent in silent.iter().chain(&crowd) {
        assert!(is_closed(silent));
    }
    assert_eq!(list(&mut connect(&lab).await, 0).await, ["a"]);
    assert_eq!(list(&mut speaking, 0).await, ["a"], "who has spoken may be silent");
    drop(speaking);
    assert!(descriptors() < before + SILENT / 4);
}

/// Whether the daemon closes the connection soon.
fn is_closed(caller: &UnixStream) -> bool {
    let timeout = SOON.try_into().unwrap();
    rustix::event::poll(&mut [PollFd::new(caller, PollFlags::RDHUP)], Some(&timeout)).unwrap() == 1
}

/// Whether the daemon has closed the connection.
fn has_ended(caller: &UnixStream) -> bool {
    let at_once = rustix::event::Timespec::default();
    rustix::event::poll(&mut [PollFd::new(caller, PollFlags::RDHUP)], Some(&at_once)).unwrap() == 1
}

#[tokio::test]
async fn a_watch_whose_daemon_dies_says_how_to_go_on() {
    let lab = Lab::new("watch-dies");
    let mut daemon = lab.daemon(&[]);
    lab.setup("a", NOBODY);
    let mut watch = lab.spawn_ctl(&["watch", "--json"]);
    let line = watch.wait_for_line("the bookmark", SOON, |line| line.contains("bookmark"));
    let bookmark: serde_json::Value = serde_json::from_str(&line).unwrap();
    daemon.signal(rustix::process::Signal::KILL);
    daemon.wait_for_end(SOON);
    assert_eq!(watch.wait_for_end(SOON).code(), Some(1));
    let last = watch.rest().pop().map_or(bookmark, |line| serde_json::from_str(&line).unwrap());
    let told = watch.rest_of_log().join("\n");
    assert!(told.contains("the daemon has gone") && !told.contains("h2"), "{told}");
    assert!(told.contains(&format!("--from {}`", last["revision"])), "{told} after {last}");
}

type Client = MediaControlClient<Channel>;

fn endpoint(lab: &Lab) -> Endpoint {
    Endpoint::from_shared(format!("unix:{}", lab.control_socket())).unwrap()
}

async fn connect(lab: &Lab) -> Client {
    MediaControlClient::new(endpoint(lab).connect().await.unwrap())
}

/// A set-up of its own, whoever else is at it.
fn ask_for(
    client: &Client,
    id: &str,
) -> impl Future<Output = Result<Response<v1::SetupStreamResponse>, Status>> + use<> {
    let mut client = client.clone();
    let request = v1::SetupStreamRequest { id: id.to_owned(), url: NOBODY.to_owned(), spec: None };
    async move { client.setup_stream(request).await }
}

async fn set_up(client: &mut Client, id: &str) {
    let request = v1::SetupStreamRequest { id: id.to_owned(), url: NOBODY.to_owned(), spec: None };
    assert!(client.setup_stream(request).await.unwrap().into_inner().created, "{id}");
}

async fn tear_down(client: &mut Client, id: &str) {
    let request = v1::TeardownStreamRequest { id: id.to_owned() };
    assert!(client.teardown_stream(request).await.unwrap().into_inner().existed, "{id}");
}

/// Makes the stream's events large, so that few fill what stands between the daemon and a watcher.
async fn set_up_with_notes(client: &mut Client, id: &str) {
    let labels = (0..8).map(|number| (format!("note{number}"), "x".repeat(256))).collect();
    let spec = v1::StreamSpec { url: NOBODY.to_owned(), labels, ..Default::default() };
    let request = v1::SetupStreamRequest { id: id.to_owned(), spec: Some(spec), ..Default::default() };
    assert!(client.setup_stream(request).await.unwrap().into_inner().created, "{id}");
}

/// Does the same with each stream of a batch.
async fn together(client: &Client, step: impl AsyncFn(&mut Client, &str)) {
    let mut client = client.clone();
    for number in 0..BATCH {
        step(&mut client, &format!("guest{number}")).await;
    }
}

/// Reads a watcher's events, which must be gapless after `revision`, until each stream of a batch had its `last` one.
async fn see(
    watch: &mut Streaming<v1::StreamEvent>,
    mut revision: u64,
    last: impl Fn(&v1::StreamEvent) -> bool,
) -> u64 {
    let mut waiting: BTreeSet<String> = (0..BATCH).map(|number| format!("guest{number}")).collect();
    while !waiting.is_empty() {
        let event = next(watch).await.unwrap();
        assert_eq!(event.revision, revision + 1, "the quick one sees every change");
        revision = event.revision;
        if last(&event) {
            waiting.remove(name(&event));
        }
    }
    revision
}

/// The names of all streams, asked for in pages of `page_size`.
async fn list(client: &mut Client, page_size: i32) -> Vec<String> {
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListStreamsRequest { page_size, page_token };
        let page = client.list_streams(request).await.unwrap().into_inner();
        assert!(page_size == 0 || page.streams.len() <= usize::try_from(page_size).unwrap());
        names.extend(page.streams.into_iter().map(|stream| stream.stream_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

async fn watch_from(client: &mut Client, from_revision: u64) -> Streaming<v1::StreamEvent> {
    client.watch_streams(v1::WatchStreamsRequest { from_revision }).await.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<v1::StreamEvent>) -> Result<v1::StreamEvent, Status> {
    let event = timeout(SOON, watch.message()).await.expect("an event within the bound")?;
    Ok(event.expect("the watch goes on"))
}

fn name(event: &v1::StreamEvent) -> &str {
    event.stream.as_ref().map_or("", |stream| stream.stream_id.as_str())
}

fn state(event: &v1::StreamEvent) -> v1::State {
    event.stream.as_ref().map_or(v1::State::Unspecified, v1::Stream::state)
}

fn why(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "media.vms");
    assert!(!status.message().is_empty());
    (status.code(), info.reason)
}
