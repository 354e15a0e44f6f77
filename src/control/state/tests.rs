//! The directory with real files; `tests/restart.rs` kills the daemon.

use super::*;
use crate::control::error::ApiError;
use crate::control::spec::tests::{CANARY, spec};
use std::os::unix::fs::symlink;

struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let name = format!("vms-state-{}-{test}", std::process::id());
        let scratch = Self(std::env::temp_dir().join(name));
        let _ = fs::remove_dir_all(&scratch.0);
        scratch
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("streams").join(name)
    }

    fn open(&self) -> StateDir {
        StateDir::open(&self.0).unwrap()
    }

    fn ids(&self) -> Vec<String> {
        self.open().load().unwrap().iter().map(|stream| stream.id.to_string()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn stream(id: &str) -> SavedStream {
    let spec = spec(&format!("rtsp://admin:{CANARY}@10.0.0.1/{id}"));
    SavedStream { id: StreamId::new(id).unwrap(), spec, created: UnixNanos(7) }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_was_saved_is_there_after_a_restart_and_only_for_its_owner() {
    let scratch = Scratch::new("saved");
    let store = Store::spawn(scratch.open()).unwrap();
    run(async {
        let saving = ["b", "a", "c"].map(|id| store.save(&stream(id)));
        for saving in saving {
            saving.done().await.unwrap();
        }
        store.forget(&stream("c").id).done().await.unwrap();
        store.forget(&stream("c").id).done().await.unwrap();
        store.save(&stream("a")).done().await.unwrap();
    });
    assert_eq!((mode(&scratch.0), mode(&scratch.file(""))), (0o700, 0o700));
    assert_eq!(mode(&scratch.file("a")), 0o600);
    assert!(matches!(StateDir::open(&scratch.0), Err(StateError::Taken { .. })));
    drop(store);
    // The thread ends, and with it the lock, when it has seen that nobody asks any more.
    let taken = || matches!(StateDir::open(&scratch.0), Err(StateError::Taken { .. }));
    while taken() {
        thread_yield();
    }
    assert_eq!(scratch.ids(), ["a", "b"]);
}

fn thread_yield() {
    std::thread::yield_now();
}

#[test]
fn a_directory_that_others_can_use_is_refused() {
    let scratch = Scratch::new("private");
    drop(scratch.open());
    for (path, mode) in [(scratch.0.clone(), 0o750), (scratch.0.clone(), 0o701), (scratch.file(""), 0o755)] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = StateDir::open(&scratch.0).unwrap_err();
        assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    }
    drop(scratch.open());
}

#[test]
fn what_is_no_streams_file_is_set_aside_and_the_others_come_up() {
    let scratch = Scratch::new("aside");
    let directory = scratch.open();
    for id in ["a", "b", "c", "d"] {
        directory.write(&stream(id).id, &format::encode(&stream(id))).unwrap();
    }
    drop(directory);
    let whole = fs::read(scratch.file("b")).unwrap();
    fs::write(scratch.file("b"), &whole[..whole.len() - 1]).unwrap();
    fs::write(scratch.file("c"), "").unwrap();
    fs::write(scratch.file(".e.new"), &whole).unwrap();
    fs::write(scratch.file("NOTES"), "mine").unwrap();
    symlink("/dev/zero", scratch.file("f")).unwrap();
    fs::create_dir(scratch.file("g")).unwrap();
    fs::write(scratch.file("h"), vec![0; STATE_FILE_LEN_MAX + 1]).unwrap();

    assert_eq!(scratch.ids(), ["a", "d"]);
    let mut left: Vec<_> = fs::read_dir(scratch.file(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".b.bad", ".c.bad", ".f.bad", ".g.bad", ".h.bad", "NOTES", "a", "d"]);
    assert_eq!(
        fs::read(scratch.file(".b.bad")).unwrap(),
        whole[..whole.len() - 1],
        "for whoever wants to look"
    );
    assert_eq!(scratch.ids(), ["a", "d"], "and it stays so");
}

#[test]
fn a_failed_write_leaves_the_old_file_and_is_told() {
    let scratch = Scratch::new("failed");
    let directory = scratch.open();
    directory.write(&stream("a").id, &format::encode(&stream("a"))).unwrap();
    // Not even root writes where a directory stands.
    fs::create_dir(scratch.file(".a.new")).unwrap();
    let store = Store::spawn(directory).unwrap();
    let changed = SavedStream { created: UnixNanos(8), ..stream("a") };
    let error = run(store.save(&changed).done()).unwrap_err();
    assert!(matches!(error, ApiError::NotSaved { .. }), "{error}");
    assert!(!error.to_string().contains(CANARY), "{error}");
    fs::remove_dir(scratch.file(".a.new")).unwrap();
    let bytes = fs::read(scratch.file("a")).unwrap();
    assert_eq!(format::decode(&changed.id, &bytes).unwrap().created, UnixNanos(7));
    run(store.save(&changed).done()).unwrap();
}

#[test]
fn a_file_that_others_can_read_is_closed_to_them() {
    let scratch = Scratch::new("closed");
    let directory = scratch.open();
    directory.write(&stream("a").id, &format::encode(&stream("a"))).unwrap();
    fs::set_permissions(scratch.file("a"), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(directory.load().unwrap().len(), 1);
    assert_eq!(mode(&scratch.file("a")), 0o600);
}
