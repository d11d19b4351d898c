//! Reads, aggregates and evaluates an untrusted recording. The input is used twice: as a whole file, and as
//! frame bodies with correct checksums behind a valid header, which random bytes would never form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinwatch::evaluation::evidence::Evidence;
use pinwatch::evaluation::group::Groups;
use pinwatch::evaluation::what_if::{Outcome, Rule};
use pinwatch::host::machine::Machine;
use pinwatch::model::session::Start;
use pinwatch::recording::replay::Replay;
use pinwatch::recording::{Header, Writer};

fuzz_target!(|data: &[u8]| {
    read(data);
    let start = Start {
        version: String::new(),
        abi: 0,
        release: String::new(),
        era: String::new(),
        wall_offset_ns: 0,
        status: Box::default(),
    };
    let header = Header::new(start, None, Machine::default());
    let mut file = Vec::new();
    Writer::new(&mut file, &header, false).expect("a write to a Vec cannot fail");
    // A length byte before each body decides where a frame ends.
    let mut rest = data;
    while let Some((length, more)) = rest.split_first() {
        let (body, more) = more.split_at(more.len().min(usize::from(*length)));
        file.extend(b"\xf5PwF");
        file.extend((body.len() as u32).to_le_bytes());
        file.extend(crc32fast::hash(body).to_le_bytes());
        file.extend(body);
        rest = more;
    }
    read(&file);
});

/// Uses a recording as `pinwatch report` does. May find an error, must not panic.
fn read(file: &[u8]) {
    let Ok(mut replay) = Replay::new(file) else {
        return;
    };
    let (mut evidence, mut groups) = (Evidence::default(), Groups::default());
    let rules = [
        "immediate",
        "migrate-max=10,isolate-max=100",
        "forward-progress",
    ];
    let rules = rules.map(|rule| rule.parse::<Rule>().expect("a valid rule"));
    let mut outcomes = rules.map(Outcome::new);
    while let Some(pins) = replay.next_pins().expect("memory can be read") {
        for traced in &pins {
            evidence.add(traced);
            groups.add(traced, Some(3));
            outcomes.iter_mut().for_each(|outcome| outcome.add(traced));
        }
    }
    let _ = (replay.lost.total(), replay.damage());
}
