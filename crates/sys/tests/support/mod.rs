//! What several test binaries need.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// Set in child processes.
const CHILD: &str = "BPF_ARENA_TEST_CHILD";

/// A command that runs the test `name` of this binary again, in a child process where [`is_child`] holds.
pub(crate) fn child(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    command
}

/// Whether this process was started by [`child`].
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs `body` in a child process, as the test `name` (its full path); how the child ended. The child exits with 0 if
/// `body` returns.
pub(crate) fn in_child(name: &str, body: impl FnOnce()) -> ExitStatus {
    if is_child() {
        body();
        std::process::exit(0);
    }
    let output = child(name).output().unwrap();
    if output.status.code() == Some(101) {
        panic!("child panicked: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status
}

/// Runs `body` in a child process that must end well.
#[allow(dead_code, reason = "not every test binary uses it")]
pub(crate) fn must_succeed_in_child(name: &str, body: impl FnOnce()) {
    let status = in_child(name, body);
    assert!(status.success(), "{status:?} (signal {:?})", status.signal());
}
