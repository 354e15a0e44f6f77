//! Promise: a password goes to its camera and nowhere else: no answer, no log line, no error and no core file has it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use support::{Cameras, Lab, Process, SOON};

/// Begins every password here.
const CANARY: &str = "CaNaRy7f3a";
/// What a camera of the test wants, and the same as it stands in a URL.
const PASSWORD: &str = "CaNaRy7f3a/@?#%:x";
const PASSWORD_IN_URL: &str = "CaNaRy7f3a%2F%40%3F%23%25%3Ax";

#[test]
fn no_answer_and_no_log_line_holds_a_password() {
    let lab = Lab::new("secrets");
    let mut command = lab.daemon_command(&[]);
    command.env("VMS_LOG", "trace");
    let mut daemon = Process::spawn("vms-media", command);
    daemon.wait_for_log("ready");
    let cameras = lab.cameras(&["--user", "operator", "--password", PASSWORD, "--auth", "basic"]);
    let open = lab.cameras(&[]);
    let mut table = lab.spawn_ctl(&["watch"]);
    let mut said = Transcript::default();
    let mut watch = lab.watch();

    for (id, url, state) in streams(&cameras, &open) {
        said.ctl(&lab, &["setup", id, &url]);
        said.ctl(&lab, &["setup", id, &url]);
        watch.wait_for_state(id, state);
        said.ctl(&lab, &["get", id]);
    }
    let file = lab.path("password");
    fs::write(&file, format!("{PASSWORD}\n")).unwrap();
    said.ctl(&lab, &["setup", "file", &cameras.url("h264"), "--user", "operator", "--password-file", &file]);
    watch.wait_for_state("file", "streaming");
    fs::remove_file(&file).unwrap();
    for mistake in mistakes(&cameras) {
        said.ctl(&lab, &mistake.iter().map(String::as_str).collect::<Vec<_>>());
    }
    for arguments in [&["list"][..], &["info"], &["teardown", "user-part"]] {
        said.ctl(&lab, arguments);
    }
    watch.wait_for_removal("user-part");

    let proc = format!("/proc/{}", daemon.pid().as_raw_nonzero());
    for file in ["cmdline", "environ"] {
        // Not even the owner may read the environment of a process that may not be dumped.
        said.add(file, &fs::read(format!("{proc}/{file}")).unwrap_or_default());
    }
    assert!(daemon.terminate().success());
    table.wait_for_end(SOON);
    said.add("the log", daemon.rest_of_log().join("\n").as_bytes());
    said.add("watch", [table.rest(), table.rest_of_log()].concat().join("\n").as_bytes());
    said.add("watch --json", watch.everything().as_bytes());
    said.check();
}

#[test]
fn the_daemon_leaves_no_core_file() {
    let lab = Lab::new("core");
    // The daemon inherits this and must take it back.
    let limit = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut command = lab.daemon_command(&[]);
    command.current_dir(&lab.dir);
    let mut daemon = Process::spawn("vms-media", command);
    daemon.wait_for_log("ready");

    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid().as_raw_nonzero())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");

    daemon.signal(Signal::ABORT);
    let status = daemon.wait_for_end(SOON);
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
    let left: Vec<_> = fs::read_dir(&lab.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("core")), "{left:?}");
}

/// Streams with a password in every place where cameras want one, and the state that each must reach.
fn streams(cameras: &Cameras, open: &Cameras) -> Vec<(&'static str, String, &'static str)> {
    let (with, without) = (&cameras.address, &open.address);
    vec![
        ("user-part", format!("rtsp://operator:{PASSWORD_IN_URL}@{with}/h264"), "streaming"),
        ("query", format!("rtsp://{without}/h264?user=admin&password={CANARY}"), "streaming"),
        ("path", format!("rtsp://{without}/user=admin_password={CANARY}_channel=1"), "backoff"),
        ("wrong", format!("rtsp://operator:{CANARY}@{with}/h264"), "auth_failed"),
    ]
}

/// Command lines that are refused, each with a password where none belongs.
fn mistakes(cameras: &Cameras) -> Vec<Vec<String>> {
    let address = &cameras.address;
    let setup = |id: &str, url: String| vec!["setup".to_owned(), id.to_owned(), url];
    vec![
        setup("user-part", format!("rtsp://operator:{CANARY}@{address}/h264")),
        setup("user-part", format!("rtsp://{address}/h264?password={CANARY}")),
        setup(&format!("rtsp://u:{CANARY}@h/"), "id".to_owned()),
        setup("not-encoded", format!("rtsp://operator:{CANARY}/@?x@{address}/h264")),
        setup("a", format!("rtsp://u:{CANARY}@")),
        setup("a", format!("rtsp://u:{CANARY}@h:port/")),
        setup("a", format!("rtsp://u:{CANARY}")),
        setup("a", format!("{CANARY}://h/")),
        setup("a", format!("http://u:{CANARY}@h/")),
        setup("a", format!("rtsps://u:{CANARY}@h/")),
        setup("a", format!("u:{CANARY}@h/")),
        vec!["get".to_owned(), format!("u:{CANARY}")],
        vec!["teardown".to_owned(), format!("u:{CANARY}")],
    ]
}

/// Everything that was said, by whom.
#[derive(Default)]
struct Transcript(Vec<(String, String)>);

impl Transcript {
    /// Runs `vms-ctl` twice, for people and for machines; whether it succeeds does not matter here.
    fn ctl(&mut self, lab: &Lab, arguments: &[&str]) {
        for arguments in [arguments.to_vec(), [arguments, &["--json"]].concat()] {
            let output = lab.ctl(&arguments);
            let name = format!("{} {}", arguments[0], output.status);
            assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{name} says nothing");
            self.add(&name, &[output.stdout, output.stderr].concat());
        }
    }

    fn add(&mut self, name: &str, text: &[u8]) {
        self.0.push((name.to_owned(), String::from_utf8_lossy(text).into_owned()));
    }

    fn check(&self) {
        let login = BASE64.encode(format!("operator:{PASSWORD}"));
        for (name, text) in &self.0 {
            for line in text.lines() {
                let clean = !line.contains(CANARY) && !line.contains(&login);
                assert!(clean, "{name}: {line:.600}");
            }
        }
        // The test would prove nothing of a log that says nothing.
        let log = &self.0.iter().find(|(name, _)| name == "the log").unwrap().1;
        assert!(log.contains("TRACE h2::") && log.contains("user-part"), "{log:.2000}");
    }
}
