//! Memory and time that long or damaged recordings need.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::*;

#[test]
fn replay_of_many_pins_needs_less_than_64_mb() {
    let folder = Folder::new("many");
    let file = folder.file("pins");
    record(&file, OLD, 300_000, 7);
    for (output, wanted) in [
        ("metrics", "pinwatch_pins_total{origin=\"io_uring\"} 300000"),
        ("report", "300000 pins, 0 failed"),
    ] {
        // The limit is on address space, which is larger than resident memory.
        let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", 64_000_000 / 1024);
        let replay = Command::new("sh")
            .args([
                "-c",
                &limited,
                env!("CARGO_BIN_EXE_pinwatch"),
                "replay",
                "--as",
                output,
            ])
            .arg(&file)
            .output()
            .expect("sh");
        assert!(text(&replay).contains(wanted), "{replay:?}");
    }
}

#[test]
fn a_damaged_recording_full_of_marks_is_read_in_time() {
    let folder = Folder::new("marks");
    let file = folder.file("pins");
    write(&file, &[load(plain())], unchanged);
    let mut bytes = fs::read(&file).expect("it is written");
    // The head of a frame of 1 MiB, over and over.
    let head = *b"\xf5PwF\0\0\x10\0\0\0\0\0";
    for _ in 0..(3 << 20) / head.len() {
        bytes.extend(head);
    }
    fs::write(&file, bytes).expect("written");
    let started = Instant::now();
    let output = pinwatch(&["report"], &[&file]);
    assert!(text(&output).contains("1 pins, 0 failed"), "{output:?}");
    // Some seconds without optimisation. Checking each frame from its bytes takes minutes.
    assert!(started.elapsed() < Duration::from_secs(60));
}
