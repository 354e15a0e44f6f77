//! One program: started, waited for, started again.

use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::output::{SharedLines, pass_on};
use super::restarts::Restarts;
use super::{Board, Sockets};
use crate::clock;
use crate::config::ReaderProgram;
use crate::launch::{LAUNCH, NOT_FOUND, NOT_RUN};
use crate::limits::PROGRAM_STOP_TIMEOUT;

/// Keeps `program` running until it is told to stop.
pub(super) async fn keep(
    program: ReaderProgram,
    sockets: Sockets,
    board: Board,
    index: usize,
    mut stop: watch::Receiver<bool>,
) {
    let name = program.name.as_str();
    let mut restarts = Restarts::default();
    let lines = SharedLines::new();
    while !*stop.borrow() {
        let start = clock::now();
        let end = match command(&program, &sockets).spawn() {
            Ok(child) => {
                let pid = child.id();
                info!(program = name, pid, "reader program started");
                board.change(index, |program| {
                    (program.pid, program.since, program.starts) = (pid, start.wall, program.starts + 1);
                });
                run(name, child, &lines, &mut stop).await
            }
            Err(error) => error.to_string(),
        };
        let now = clock::now();
        board.change(index, |program| {
            (program.pid, program.since) = (None, now.wall);
            program.last_end.clone_from(&end);
        });
        if *stop.borrow() {
            info!(program = name, end, "reader program ended");
            return;
        }
        let wait = restarts.next_wait(now.mono - start.mono);
        error!(program = name, end, again_in_s = wait.as_secs(), "reader program ended; it is started again");
        tokio::select! {
            () = sleep(wait) => {}
            () = told_to_stop(&mut stop) => return,
        }
    }
}

/// The program through [`launch`](crate::launch), in a process group of its own, so that what it starts ends with it, and a Ctrl-C
/// for the daemon is no signal to it: the daemon tells it when it is time.
fn command(program: &ReaderProgram, sockets: &Sockets) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(LAUNCH)
        .arg(std::process::id().to_string())
        .arg("--")
        .arg(&program.command)
        .args(&program.args)
        .envs(&program.env)
        .env("VMS_RING_SOCKET", &sockets.ring)
        .env("VMS_CONTROL", &sockets.control)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Passes on what the program says, until it has ended, by itself or because it was told to; how.
async fn run(name: &str, mut child: Child, lines: &SharedLines, stop: &mut watch::Receiver<bool>) -> String {
    let mut outputs = JoinSet::new();
    if let Some(output) = child.stdout.take() {
        outputs.spawn(pass_on(name.to_owned(), output, lines.clone(), clock::now));
    }
    if let Some(output) = child.stderr.take() {
        outputs.spawn(pass_on(name.to_owned(), output, lines.clone(), clock::now));
    }
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = told_to_stop(stop) => end(name, &mut child).await,
    };
    // The last words; what the program has started may hold its output open for ever.
    let _ = timeout(LAST_WORDS, async { while outputs.join_next().await.is_some() {} }).await;
    ended.map_or_else(|error| error.to_string(), how)
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    // An error is that nobody can tell any more.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Tells the program to end, and sees to it that it does.
async fn end(name: &str, child: &mut Child) -> std::io::Result<ExitStatus> {
    signal(child, Signal::TERM);
    if let Ok(ended) = timeout(PROGRAM_STOP_TIMEOUT, child.wait()).await {
        return ended;
    }
    warn!(program = name, "reader program did not end in time; it is killed");
    signal(child, Signal::KILL);
    child.wait().await
}

/// The child has not been waited for, so the number is still its own.
fn signal(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let Some(pid) = pid {
        let _ = kill_process_group(pid, signal);
    }
}

fn how(status: ExitStatus) -> String {
    match status.code() {
        // Its own words, in the log, tell whether it was the program that said so: a shell does, of what it was to run.
        Some(code) if code == i32::from(NOT_FOUND) => {
            format!("{status}, it was not found: check `command`, or what it runs")
        }
        Some(code) if code == i32::from(NOT_RUN) => {
            format!("{status}, it cannot be run: check `command` and its rights, or those of what it runs")
        }
        _ => status.to_string(),
    }
}

/// For what a program wrote before its end.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);
