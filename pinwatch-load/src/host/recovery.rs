//! The start of a load: restores what an earlier load left behind because it was killed.
#![forbid(unsafe_code)]

use std::path::Path;

use super::change::Change;
use super::effect::State;
use super::files::Host;
use super::session;
use super::state_file::{self, Content, Locked, StateFile};

/// Reports changes that an earlier load left behind, and undoes those that are still as it left them.
pub fn recover(host: &Host, folder: &Path) {
    match StateFile::lock(folder, host, false) {
        Ok(state) => recover_locked(host, folder, &state),
        // A load that is running restores its own changes.
        Err(Locked::Absent | Locked::Busy) => (),
        Err(Locked::Denied) => report_only(host, folder),
        Err(error @ (Locked::Untrusted(_) | Locked::Io(_))) => {
            eprintln!("pinwatch load: {error}");
        }
    }
}

fn recover_locked(host: &Host, folder: &Path, state: &StateFile) {
    let (pid, left) = match state.read() {
        Ok(Some(content)) => {
            report(host, &content);
            (content.pid, session::restore(host, content.changes))
        }
        // Removes a file of an earlier boot.
        Ok(None) => (0, Vec::new()),
        Err(why) => {
            report_unreadable(folder, &why);
            return;
        }
    };
    if let Err(error) = state.write_for(pid, &left) {
        eprintln!(
            "pinwatch load: cannot write {}: {error}",
            state_file::path(folder).display()
        );
    }
}

/// For a process that may not restore anything.
fn report_only(host: &Host, folder: &Path) {
    match state_file::peek(folder, host) {
        Ok(Some(content)) if !is_running(host, content.pid) => {
            for change in report(host, &content) {
                eprintln!(
                    "pinwatch load: `pinwatch load` as root restores it. By hand: {}",
                    change.by_hand()
                );
            }
        }
        // The next start as root reports an unreadable file.
        Ok(_) | Err(_) => (),
    }
}

/// Reports the changes that are still in effect, and returns them.
fn report<'a>(host: &Host, content: &'a Content) -> Vec<&'a Change> {
    let in_effect = |change: &&Change| !matches!(change.state(host), Ok(State::AsBefore));
    let left: Vec<_> = content.changes.iter().filter(in_effect).collect();
    for change in &left {
        eprintln!(
            "pinwatch load: an earlier load (process {}) was killed and left {} at {} instead of {}",
            content.pid,
            change.what(),
            change.after(),
            change.before()
        );
    }
    left
}

fn report_unreadable(folder: &Path, why: &str) {
    eprintln!(
        "pinwatch load: {} is no state file of pinwatch load: {why}. Nothing was restored: check the host, then delete the file",
        state_file::path(folder).display()
    );
}

fn is_running(host: &Host, pid: u32) -> bool {
    host.path(format!("proc/{pid}")).exists()
}
