//! Kernel-wide switches that silence hooks.
//!
//! If a switch is off, its hooks stay attached, report no error and never run. docs/service.md lists the
//! hooks of each switch.
#![forbid(unsafe_code)]

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

/// Position of a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    On,
    Off,
    /// Off until the next boot, because the kernel has shut ftrace down after an error.
    Broken,
    /// Not readable by this process.
    #[default]
    Unknown,
}

/// Positions of all switches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Switches {
    /// `kernel.ftrace_enabled`.
    pub ftrace: Switch,
    /// `kprobes/enabled` in debugfs.
    pub kprobes: Switch,
}

/// Files that hold the switches, opened before the daemon drops its capabilities: only root can open files in
/// debugfs.
#[derive(Debug)]
pub struct SwitchFiles {
    ftrace: Option<File>,
    kprobes: Option<File>,
}

impl SwitchFiles {
    /// Opens the files that exist and may be read.
    #[must_use]
    pub fn open() -> Self {
        Self {
            ftrace: File::open("/proc/sys/kernel/ftrace_enabled").ok(),
            kprobes: File::open("/sys/kernel/debug/kprobes/enabled").ok(),
        }
    }

    /// Reads the switches: one pread(2) each.
    #[must_use]
    pub fn read(&self) -> Switches {
        Switches {
            ftrace: read(self.ftrace.as_ref()),
            kprobes: read(self.kprobes.as_ref()),
        }
    }
}

fn read(file: Option<&File>) -> Switch {
    let mut text = [0; 8];
    match file.map(|file| file.read_at(&mut text, 0)) {
        Some(Ok(1..)) if text[0] == b'0' => Switch::Off,
        Some(Ok(1..)) if text[0] == b'1' => Switch::On,
        // `ftrace_enable_sysctl` returns ENODEV after `ftrace_kill`.
        Some(Err(error)) if error.raw_os_error() == Some(libc::ENODEV) => Switch::Broken,
        _ => Switch::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_switch_is_read_each_time_and_unknown_if_malformed() {
        let mut file = tempfile::tempfile().expect("a file");
        assert_eq!(read(Some(&file)), Switch::Unknown);
        file.write_all(b"1\n").expect("the file can be written");
        assert_eq!(read(Some(&file)), Switch::On);
        file.write_all_at(b"0", 0).expect("the file can be written");
        assert_eq!(read(Some(&file)), Switch::Off);
        file.write_all_at(b"x", 0).expect("the file can be written");
        assert_eq!(read(Some(&file)), Switch::Unknown);
        assert_eq!(read(None), Switch::Unknown);
    }
}
