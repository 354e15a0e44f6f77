//! Promise: streams that the configuration file names are carried from the start on, are the file's and nobody else's to change, and
//! their passwords are told to nobody but their cameras.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;

use rustix::process::Signal;
use serde_json::Value;
use support::{Lab, Process, SOON, Tap, assert_flawless};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use vms_proto::v1;
use vms_proto::v1::media_control_client::MediaControlClient;

const CANARY: &str = "CaNaRy4d17";
/// A camera that refuses connections: nothing listens at the port of tcpmux.
const NOBODY: &str = "rtsp://127.0.0.1:1/";

#[test]
fn a_stream_of_the_file_streams_and_its_password_is_told_to_nobody() {
    let lab = Lab::new("file-streams");
    let cameras = lab.cameras(&["--user", "operator", "--password", CANARY]);
    let password = lab.path("door.password");
    fs::write(&password, format!("{CANARY}\nanother line\n")).unwrap();
    let door = format!(
        "[stream.door]\nurl = \"{}\"\nuser = \"operator\"\npassword_file = \"{password}\"\nlabels = {{ site = \"north\" }}\n\
         uids = [4242]\nidle_timeout = \"8s\"\n",
        cameras.url("h264")
    );
    let gate = format!("[stream.\"gate.1\"]\nurl = \"rtsp://operator:{CANARY}@{}/h265\"\n", cameras.address);
    let file = configuration(&lab, &(door + &gate));
    let state = lab.path("state");
    let start = || {
        let mut command = lab.daemon_command(&["--config", &file, "--state-dir", &state]);
        command.env("VMS_LOG", "trace");
        let daemon = Process::spawn("vms-media", command);
        daemon.wait_for_log("ready");
        daemon
    };
    let mut daemon = start();
    let mut watch = lab.watch();
    watch.wait_for_state("door", "streaming");
    watch.wait_for_state("gate.1", "streaming");
    let mut tap: Tap = lab.tap(&["door", "--stamp", "--json", "--count", "25"]).into();
    assert!(tap.process.wait_for_end(SOON).success(), "{}", tap.process.log());
    assert_flawless("door", &tap.summaries()["door"]);

    let stream = lab.ctl_json(&["get", "door"]);
    assert_eq!((&stream["origin"], &stream["credentials_set"]), (&"file".into(), &true.into()));
    assert_eq!((&stream["labels"]["site"], &stream["access"]["uids"][0]), (&"north".into(), &4242.into()));
    assert_eq!(stream["timeouts"]["idle_s"], 8.0);
    assert_eq!(lab.ctl_json(&["get", "gate.1"])["url"], cameras.url("h265"));
    let mut said = vec![lab.ctl_json(&["list"]).to_string()];
    for arguments in [&["get", "door"][..], &["list"], &["teardown", "door"], &["setup", "gate.1", NOBODY]] {
        let output = lab.ctl(arguments);
        said.extend([output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()));
    }

    // Nothing of it is in the state directory, and the next daemon has it from the file again.
    assert_eq!(fs::read_dir(format!("{state}/streams")).unwrap().count(), 0);
    daemon.signal(Signal::KILL);
    daemon.wait_for_end(SOON);
    said.push(daemon.rest_of_log().join("\n"));
    let mut daemon = start();
    let mut again = lab.watch();
    again.wait_for_state("door", "streaming");
    assert!(daemon.terminate().success());
    let log = daemon.rest_of_log().join("\n");
    assert!(log.contains("TRACE h2::") && log.contains("door"), "the log says something");
    said.extend([log, watch.everything(), again.everything()]);
    for text in said {
        assert!(!text.contains(CANARY), "{:.600}", text.lines().find(|line| line.contains(CANARY)).unwrap());
    }
}

#[tokio::test]
async fn what_the_next_start_would_undo_is_refused() {
    let lab = Lab::new("file-owner");
    let file =
        configuration(&lab, &format!("[stream.door]\nurl = \"{NOBODY}\"\nlabels = {{ site = \"north\" }}\n"));
    let _daemon = lab.daemon(&["--config", &file]);
    let endpoint = Endpoint::from_shared(format!("unix:{}", lab.control_socket())).unwrap();
    let mut client = MediaControlClient::new(endpoint.connect().await.unwrap());
    let before = get(&mut client).await;
    assert_eq!(before.origin(), v1::Origin::File);

    let update = v1::UpdateStreamRequest { id: "door".to_owned(), ..Default::default() };
    let teardown = v1::TeardownStreamRequest { id: "door".to_owned() };
    let refusals = [
        client.setup_stream(setup(NOBODY, &[])).await.map(drop).unwrap_err(),
        client.setup_stream(setup("rtsp://127.0.0.1:2/", &[("site", "north")])).await.map(drop).unwrap_err(),
        client.update_stream(update).await.map(drop).unwrap_err(),
        client.teardown_stream(teardown).await.map(drop).unwrap_err(),
    ];
    for refusal in refusals {
        let info = refusal.get_details_error_info().unwrap();
        assert_eq!((refusal.code(), info.reason.as_str()), (Code::FailedPrecondition, "STREAM_FROM_FILE"));
        assert_eq!(info.metadata["stream_id"], "door");
        let advice = format!("stream door is the configuration file's ({file}:1): change it there");
        assert!(refusal.message().starts_with(&advice), "{refusal}");
    }
    // The same spec is no change, and what does not touch it is allowed.
    let again = client.setup_stream(setup(NOBODY, &[("site", "north")])).await.unwrap().into_inner();
    assert!(!again.created);
    let restart = v1::RestartStreamRequest { id: "door".to_owned() };
    client.restart_stream(restart).await.unwrap();
    let after = get(&mut client).await;
    assert_eq!((after.etag, after.spec), (before.etag, before.spec));
    // Another stream is the caller's.
    let other = v1::SetupStreamRequest { id: "other".to_owned(), ..setup(NOBODY, &[]) };
    let other = client.setup_stream(other).await.unwrap().into_inner();
    assert_eq!(other.stream.unwrap().origin(), v1::Origin::Api);
}

#[test]
fn the_file_comes_before_what_was_saved_and_what_it_no_longer_names_is_gone() {
    let lab = Lab::new("file-and-state");
    let state = lab.path("state");
    let arguments = ["--state-dir", state.as_str()];
    let mut daemon = lab.daemon(&arguments);
    lab.setup("door", "rtsp://127.0.0.1:1/saved");
    lab.setup("other", NOBODY);
    assert!(daemon.terminate().success());

    let file = configuration(&lab, "[stream.door]\nurl = \"rtsp://127.0.0.1:1/file\"\n");
    let mut daemon = lab.daemon(&[&arguments[..], &["--config", &file]].concat());
    assert_eq!(ids_and_origins(&lab), [("door", "file"), ("other", "api")].map(owned));
    assert_eq!(lab.ctl_json(&["get", "door"])["url"], "rtsp://127.0.0.1:1/file");
    assert!(!fs::exists(format!("{state}/streams/door")).unwrap());
    assert!(daemon.terminate().success());
    assert!(daemon.log().contains("what was saved is forgotten"), "{}", daemon.log());

    let mut daemon = lab.daemon(&arguments);
    assert_eq!(ids_and_origins(&lab), [("other", "api")].map(owned));
    // The name is free again.
    lab.setup("door", NOBODY);
    assert!(daemon.terminate().success());
}

#[test]
fn a_table_that_makes_no_stream_starts_no_daemon() {
    let lab = Lab::new("file-wrong");
    let good = format!("[stream.good]\nurl = \"{NOBODY}\"\n");
    let empty = lab.path("empty");
    fs::write(&empty, "\nsecond line\n").unwrap();
    for (table, words) in [
        ("[stream.a]\nurl = \"http://h/\"\n".to_owned(), ":4:7: stream.a.url: only rtsp:// URLs are carried"),
        (format!("[stream.a]\nurl = \"rtsp://u:{CANARY}@\"\n"), ":4:7: stream.a.url: the URL names no host"),
        ("[stream.a]\nuser = \"u\"\n".to_owned(), ":3:9: stream.a: says no `url` to carry"),
        (
            format!("[stream.a]\nurl = \"rtsp://h/\"\npassword = \"{CANARY}\"\n"),
            ":5:1: unknown key `password` in [stream.a]: did you mean `password_file`?",
        ),
        (
            "[stream.a]\nurl = \"rtsp://h/\"\nuser = \"u\"\npassword_file = \"/nowhere/pw\"\n".to_owned(),
            ":6:17: stream.a.password_file: /nowhere/pw: No such file or directory",
        ),
        (
            format!("[stream.a]\nurl = \"rtsp://h/\"\nuser = \"u\"\npassword_file = \"{empty}\"\n"),
            ":6:17: stream.a.password_file: ",
        ),
        (
            "[stream.a]\nurl = \"rtsp://h/\"\nuids = [4294967295]\n".to_owned(),
            ":5:8: stream.a.uids: 4294967295 is -1, which is nobody's id",
        ),
        (
            "[stream.a]\nurl = \"rtsp://h/\"\nlabels = { \"a b\" = \"v\" }\n".to_owned(),
            ":5:10: stream.a.labels: keys match",
        ),
        (
            "[stream.a]\nurl = \"rtsp://h/\"\n[stream.a.retry]\nmultiplier = 11\n".to_owned(),
            ":6:14: stream.a.retry.multiplier: out of range: expected a whole number from 1 to 10",
        ),
    ] {
        let file = configuration(&lab, &(good.clone() + &table));
        let mut daemon = Process::spawn("vms-media", lab.daemon_command(&["--config", &file]));
        assert_eq!(daemon.wait_for_end(SOON).code(), Some(2), "{table}");
        let told = daemon.rest_of_log().join("\n");
        assert!(told.starts_with(&format!("error: {file}{words}")), "{table}: {told}");
        assert!(!told.contains(CANARY) && !told.contains('\n'), "{told}");
        assert!(!fs::exists(lab.control_socket()).unwrap(), "it has begun nothing");
    }
}

fn configuration(lab: &Lab, text: &str) -> String {
    let file = lab.path("vms-media.toml");
    fs::write(&file, text).unwrap();
    file
}

fn setup(url: &str, labels: &[(&str, &str)]) -> v1::SetupStreamRequest {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let spec = Some(v1::StreamSpec { labels, ..Default::default() });
    v1::SetupStreamRequest { id: "door".to_owned(), url: url.to_owned(), spec }
}

async fn get(client: &mut MediaControlClient<Channel>) -> v1::Stream {
    let stream: Result<_, Status> = client.get_stream(v1::GetStreamRequest { id: "door".to_owned() }).await;
    stream.unwrap().into_inner()
}

fn ids_and_origins(lab: &Lab) -> Vec<(String, String)> {
    let list = lab.ctl_json(&["list"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let streams = list["streams"].as_array().unwrap().iter();
    streams.map(|stream| (text(&stream["stream_id"]), text(&stream["origin"]))).collect()
}

fn owned((id, origin): (&str, &str)) -> (String, String) {
    (id.to_owned(), origin.to_owned())
}
