//! Promise: a camera that comes and goes, or sends garbage, does not drown in the log what is said of the others.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use support::{Lab, Process, SOON, now};

/// How often the operator has the camera tried anew.
const ROUNDS: usize = 60;

#[test]
fn a_camera_that_flaps_writes_few_lines_and_another_keeps_its_own() {
    let lab = Lab::new("quiet-log");
    let mut command = lab.daemon_command(&[]);
    command.env("VMS_LOG", "info");
    let mut daemon = Process::spawn("vms-media", command);
    daemon.wait_for_log("ready");
    let mut watch = lab.watch();

    // Each set-up anew is an attempt at once. What a stream may write is counted for its name's incarnation, so this one stays and the
    // camera flaps by itself: it closes as soon as it is asked, in other words each time.
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = host.local_addr().unwrap();
    std::thread::spawn(move || {
        for (round, connection) in host.incoming().enumerate() {
            refuse(&connection.unwrap(), round);
        }
    });
    lab.setup("flapper", &format!("rtsp://{address}/x"));
    let begin = now();
    for _ in 0..ROUNDS {
        watch.next_state("flapper", "backoff");
        assert!(lab.ctl(&["restart", "flapper"]).status.success());
    }
    // Another camera, whose line comes behind all those.
    lab.setup("quiet", "rtsp://127.0.0.1:1/x");
    watch.wait_for_state("quiet", "backoff");
    let took = now().duration_since(begin);
    assert!(daemon.terminate().success());

    let log = daemon.rest_of_log();
    let of = |name: &str| log.iter().filter(|line| line.contains("WARN") && line.contains(name)).count();
    // The burst, one each ten seconds, and one for each of the reasons.
    let most = 8 + usize::try_from(took.as_secs() / 10).unwrap() + 1 + REASONS;
    assert!(of("stream=flapper") <= most, "{} lines, {most} at most, within {took:?}", of("stream=flapper"));
    for reason in ["NotFound", "Forbidden", "ServiceUnavailable"] {
        assert!(log.iter().any(|line| line.contains(reason)), "{reason} is told once");
    }
    assert_eq!(of("stream=quiet"), 1);
    assert!(took < SOON * 3 + Duration::from_secs(60), "{took:?}");
}

/// Answers of [`refuse`].
const REASONS: usize = 3;

/// Answers each request with an error, in turn another one.
fn refuse(connection: &TcpStream, round: usize) {
    let status = [404, 403, 503][round % REASONS];
    let mut lines = BufReader::new(connection).lines();
    while let Some(Ok(line)) = lines.next() {
        if line.is_empty() && write!(&*connection, "RTSP/1.0 {status} No\r\n\r\n").is_err() {
            return;
        }
    }
}
