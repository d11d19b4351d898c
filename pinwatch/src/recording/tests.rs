#![forbid(unsafe_code)]

use bytemuck::Zeroable as _;
use pinwatch_common::abi::ABI_VERSION;
use pinwatch_common::cause::cause;
use pinwatch_common::hold::HoldRecord;
use pinwatch_common::record::{Cause, Pin, PinEvent};
use pinwatch_common::weak::Holder;
use proptest::prelude::*;

use super::format::{Body, FORMAT, FRAME_HEAD, MAX_BODY, MAX_PINS};
use super::replay::Replay;
use super::*;
use crate::host::machine::Machine;
use crate::model::portable_pin::{PinWithOutcome, PortablePin};
use crate::model::session::{Lost, Start};
use crate::model::trace::{PASSES_KEPT, Pass, Traced};

fn header() -> Header {
    let start = Start {
        version: "0.1.0".to_owned(),
        abi: ABI_VERSION,
        release: "6.12".to_owned(),
        era: "folios".to_owned(),
        wall_offset_ns: 5,
        status: Box::default(),
    };
    let command = Some(vec!["pinwatch".to_owned(), "load".to_owned()]);
    Header::new(start, command, Machine::default())
}

/// A plain pin of 256 pages: one pass, no retry.
fn pin(n: u64) -> Traced {
    let event = PinEvent {
        holder: Holder::NONE,
        pin: Pin {
            start_ns: 86_400_000_000_000 + n * 1_000_000,
            duration_ns: 1_000_000 + n % 1000,
            tgid: 2_345_678,
            tid: 2_345_678 + (n % 64) as u32,
            requested: 256,
            returned: 256,
            passes: 1,
            gup_flags: 0x000a_0101,
            phase_ns: [900_000, 100_000, 0, 0, 0],
            origin: 1,
            sampled_place: 3,
            ended: 1,
            ..Pin::zeroed()
        },
        comm: *b"qemu-system-x86\0",
    };
    let passes = Vec::new();
    Traced { event, passes }
}

fn end() -> End {
    End {
        lost: Lost { ring: 1, behind: 2 },
        ..End::default()
    }
}

fn recording(frames: u64) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &header(), false).unwrap();
    for frame in 0..frames {
        writer.pins(&[pin(2 * frame), pin(2 * frame + 1)]).unwrap();
    }
    assert_eq!(writer.end(&end()).unwrap(), 2 * frames);
    file
}

/// Pins and damage of a file; `None` if its header cannot be read.
fn read(file: &[u8]) -> Option<(Vec<Traced>, Option<Damage>)> {
    let mut reader = Reader::new(file).ok()?;
    let mut pins = Vec::new();
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Pins(read) = item {
            pins.extend(read);
        }
    }
    Some((pins, reader.damage()))
}

#[test]
fn a_written_recording_is_read_back() {
    let file = recording(3);
    let mut reader = Reader::new(&file[..]).unwrap();
    assert_eq!(*reader.header(), header());
    for frame in 0..3 {
        let pins = vec![pin(2 * frame), pin(2 * frame + 1)];
        assert_eq!(reader.next_item().unwrap(), Some(Item::Pins(pins)));
    }
    let end = Item::End(Box::new(end()));
    assert_eq!(reader.next_item().unwrap(), Some(end));
    assert_eq!(reader.next_item().unwrap(), None);
    assert_eq!(reader.damage(), None);
}

#[test]
fn holds_are_read_back_beside_their_pins() {
    let hold = |number| HoldRecord {
        pin_start_ns: u64::MAX,
        ns: 5_000_000,
        held_ns: 4_000_000,
        tid: 3,
        blocker: 0x2345,
        number,
        outcome: 1,
        ..HoldRecord::zeroed()
    };
    let holds: Vec<_> = (0..=MAX_PINS).map(|n| hold(n as u8)).collect();
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &header(), true).unwrap();
    writer.holds(&holds).unwrap();
    writer.pins(&[pin(1)]).unwrap();
    writer.end(&end()).unwrap();
    let mut reader = Reader::new(&file[..]).unwrap();
    let (first, last) = holds.split_at(MAX_PINS);
    for batch in [first, last] {
        assert_eq!(
            reader.next_item().unwrap(),
            Some(Item::Holds(batch.to_vec()))
        );
    }
    assert_eq!(reader.next_item().unwrap(), Some(Item::Pins(vec![pin(1)])));
    let mut replay = Replay::new(&file[..]).unwrap();
    assert_eq!(replay.next_pins().unwrap(), Some(Vec::new()));
    assert_eq!(replay.holds, first);
    while replay.next_pins().unwrap().is_some() {}
    let cells = replay.state.cells.holds.iter().flatten();
    let sum: u64 = cells.map(|cells| cells.sum_ns).sum();
    assert_eq!(
        (sum, replay.holds.len()),
        (5_000_000 * holds.len() as u64, 0)
    );
}

#[test]
fn a_pin_of_one_pass_takes_at_most_64_bytes() {
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, &header(), false).unwrap();
    let pins: Vec<_> = (0..10_000).map(pin).collect();
    writer.pins(&pins).unwrap();
    writer.end(&End::default()).unwrap();
    let each = file.len() as f64 / 10_000.0;
    assert!(each <= 64.0, "{each} bytes");
}

#[test]
fn the_largest_pins_fit_into_frames() {
    let mut event = pin(0).event;
    bytemuck::cast_slice_mut::<Pin, u64>(std::slice::from_mut(&mut event.pin)).fill(u64::MAX);
    let pass = Pass {
        passes: u32::MAX,
        unpinnable: u64::MAX,
        moved: u64::MAX,
        failed: u64::MAX,
        repinned: u64::MAX,
        migrate_calls: u32::MAX,
        drains: u32::MAX,
        isolate_failures: [u32::MAX; 3],
        phase_ns: [u64::MAX; 5],
    };
    let passes = vec![pass; PASSES_KEPT];
    let pins = vec![Traced { event, passes }; 3000];
    for compress in [false, true] {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, &header(), compress).unwrap();
        writer.pins(&pins).unwrap();
        writer.end(&end()).unwrap();
        let (read, damage) = read(&file).unwrap();
        assert_eq!((read.len(), damage), (3000, None));
    }
}

#[test]
fn cut_anywhere_all_whole_frames_are_read() {
    let file = recording(40);
    let json = serde_json::to_string(&end()).unwrap().len();
    // The kind takes 1 byte, the length of the text 2.
    let end_frame = FRAME_HEAD + 1 + 2 + json;
    let ends: Vec<_> = (1..=40).map(|n| recording(n).len() - end_frame).collect();
    for length in 0..file.len() {
        let Some((pins, damage)) = read(&file[..length]) else {
            assert!(length < recording(0).len() - end_frame);
            continue;
        };
        assert!(damage.expect("it is cut").cut);
        let whole = pins.len() / 2;
        assert!((0..whole as u64).all(|n| pins[2 * n as usize] == pin(2 * n)));
        let longer = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(whole, longer, "{length}");
    }
}

#[test]
fn a_later_format_is_refused_with_both_versions() {
    let mut newer = header();
    newer.format = FORMAT + 1;
    newer.start.version = "9.9.9".to_owned();
    let mut file = Vec::new();
    Writer::new(&mut file, &newer, false).unwrap();
    let error = Reader::new(&file[..]).err().expect("refused").to_string();
    assert!(
        error.contains("9.9.9") && error.contains("format 4"),
        "{error}"
    );
    assert!(Reader::new(&b"\x7fELF and more"[..]).is_err());
}

/// A frame with any body and a correct checksum.
fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = b"\xf5PwF".to_vec();
    frame.extend((body.len() as u32).to_le_bytes());
    frame.extend(crc32fast::hash(body).to_le_bytes());
    frame.extend(body);
    frame
}

#[test]
fn a_frame_that_cannot_be_decoded_is_skipped_as_a_whole() {
    // Each frame contains the next one. Every one is a list of bytes, longer than its body, so that its last
    // byte must be read to refuse it. Searching inside them would read the last bytes once per frame.
    let mut nested = Vec::new();
    for _ in 0..50 {
        let mut body = vec![4, 0xff, 0xff, 0x7f];
        body.extend(nested);
        nested = frame(&body);
    }
    let mut file = recording(1);
    file.extend(&nested);
    let inner = recording(2);
    let pins_at = inner.windows(4).rposition(|bytes| bytes == b"\xf5PwF");
    file.extend(&inner[recording(1).len() - end_length()..pins_at.expect("a frame")]);
    let (pins, damage) = read(&file).expect("a header");
    assert_eq!(pins.len(), 4, "the frames before and after");
    let damage = damage.expect("damaged");
    assert_eq!(damage.skipped, nested.len() as u64);
    // A whole frame inside one that cannot be decoded is none of this recording.
    let mut body = vec![4, 0xff, 0xff, 0x7f];
    body.extend(&inner[recording(0).len() - end_length()..]);
    let mut file = recording(0);
    file.extend(frame(&body));
    assert_eq!(read(&file).expect("a header").0.len(), 0);
}

/// Length of the last frame of [`recording`].
fn end_length() -> usize {
    // The kind takes 1 byte, the length of the text 2.
    FRAME_HEAD + 1 + 2 + serde_json::to_string(&end()).unwrap().len()
}

#[test]
fn a_frame_of_too_many_pins_is_damaged_before_they_are_read() {
    let mut before_ns = 0;
    let first = PortablePin::new(&pin(0).event, &[], &mut before_ns);
    let second = PinWithOutcome::new(&pin(0).event, &[], &mut before_ns);
    for (number, fits) in [(MAX_PINS, true), (MAX_PINS + 1, false)] {
        for body in [
            Body::Pins(vec![first.clone(); number]),
            Body::PinsWithOutcome(vec![second.clone(); number]),
        ] {
            let body = postcard::to_allocvec(&body).unwrap();
            let compressed = Body::Compressed(zstd::bulk::compress(&body, 3).unwrap());
            for body in [body, postcard::to_allocvec(&compressed).unwrap()] {
                let mut file = recording(0);
                file.extend(frame(&body));
                let (pins, damage) = read(&file).expect("a header");
                let expected = if fits { number } else { 0 };
                assert_eq!((pins.len(), damage.is_none()), (expected, fits));
            }
        }
    }
}

/// Reads a pin from a recording of format 1, which has its counts and passes.
fn of_format_1(pin: Pin, passes: &[Pass]) -> Pin {
    let event = PinEvent {
        holder: Holder::NONE,
        pin: Pin {
            duration_ns: 1,
            ..pin
        },
        comm: [0; 16],
    };
    let body = Body::Pins(vec![PortablePin::new(&event, passes, &mut 0)]);
    let mut file = recording(0);
    file.extend(frame(&postcard::to_allocvec(&body).unwrap()));
    read(&file).expect("a header").0[0].event.pin
}

#[test]
fn an_older_recording_has_the_causes_that_its_counts_show() {
    let pin = |returned, migrate_ret, migrate_calls, unpinnable, passes| Pin {
        returned,
        migrate_ret,
        migrate_calls,
        failed: u64::from(migrate_ret != 0),
        unpinnable,
        passes,
        ..Pin::zeroed()
    };
    let whole = |pin: Pin| cause(&of_format_1(pin, &[]));
    assert_eq!(whole(pin(-12, 1, 1, 256, 1)), Cause::MigrateBusy);
    assert_eq!(whole(pin(-16, 1, 11, 266, 11)), Cause::MigrateBusy);
    assert_eq!(whole(pin(-12, -12, 1, 256, 1)), Cause::MigrateNomem);
    assert_eq!(whole(pin(-12, 0, 0, 0, 0)), Cause::Nomem);
    assert_eq!(whole(pin(-14, 0, 0, 0, 0)), Cause::Fault);
    assert_eq!(whole(pin(-95, 0, 0, 0, 1)), Cause::Dax);
    assert_eq!(whole(pin(-4, 0, 0, 41_000, 41_000)), Cause::Isolate);
    assert_eq!(whole(pin(-16, 0, 0, 101, 101)), Cause::Isolate);
    let unknown = Pin {
        failed: 1,
        ..pin(-12, 0, 1, 256, 1)
    };
    assert_eq!(whole(unknown), Cause::Other);
    let counted = Pin {
        isolate_failures: [1, 0, 0],
        ..pin(-4, 0, 0, 1, 1)
    };
    assert_eq!(whole(counted), Cause::Isolate);
}

/// Format 1 has the result of the last migration, also if later passes called none.
#[test]
fn an_older_recording_has_the_cause_of_the_last_pass() {
    let failed = Pin {
        returned: -16,
        passes: 2,
        unpinnable: 2,
        migrate_calls: 1,
        failed: 1,
        migrate_ret: 1,
        ..Pin::zeroed()
    };
    let pass = |migrate_calls| Pass {
        passes: 1,
        unpinnable: 1,
        migrate_calls,
        failed: migrate_calls.into(),
        ..Pass::default()
    };
    let of = |passes: [Pass; 2]| cause(&of_format_1(failed, &passes));
    assert_eq!(of([pass(1), pass(0)]), Cause::Isolate);
    assert_eq!(of([pass(0), pass(1)]), Cause::MigrateBusy);
}

#[test]
fn a_header_that_no_reader_takes_is_not_written() {
    let mut long = header();
    long.command = Some(vec!["x".repeat(MAX_BODY)]);
    let error = Writer::new(Vec::new(), &long, false)
        .err()
        .expect("refused");
    assert!(error.to_string().contains("shorten the command"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_flipped_byte_costs_its_frame_only(at in 0usize..3000, bits in 1u8..) {
        let mut file = recording(40);
        let at = at % file.len();
        file[at] ^= bits;
        if let Some((pins, damage)) = read(&file) {
            // The byte damages its own frame, or a length that reaches into the next frame.
            prop_assert!(pins.len() >= 2 * 39, "{} pins", pins.len());
            prop_assert!(pins.len() == 80 || damage.is_some());
        } else {
            prop_assert!(at < recording(0).len());
        }
    }

    #[test]
    fn anything_is_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut file = recording(1);
        file.extend(body);
        prop_assert_eq!(read(&file).expect("a header").0.len(), 2);
    }

    #[test]
    fn any_pin_survives(words in prop::collection::vec(any::<u64>(), size_of::<Pin>() / 8), comm in "[a-z]{0,15}", told in 0..PASSES_KEPT, compress: bool) {
        let mut pin: Pin = bytemuck::cast_slice(&words)[0];
        (pin.phase, pin.drained_in, pin.awaits_result, pin.eventful) = (0, 0, 0, 0);
        pin.ended = u8::from(pin.duration_ns > 0);
        let mut event = PinEvent { pin, comm: [0; 16], holder: Holder::NONE };
        event.comm[..comm.len()].copy_from_slice(comm.as_bytes());
        let pass = Pass { unpinnable: pin.unpinnable, phase_ns: pin.phase_ns, ..Pass::default() };
        let pins = vec![Traced { event, passes: vec![pass; told] }; 3];
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, &header(), compress).unwrap();
        writer.pins(&pins).unwrap();
        writer.end(&End::default()).unwrap();
        prop_assert_eq!(read(&file), Some((pins, None)));
    }
}

#[test]
fn blockers_are_recorded_and_older_recordings_have_none() {
    let mut traced = pin(0);
    traced.event.pin.blockers = 0xfedc_ba98_7654_3210;
    for compress in [false, true] {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, &header(), compress).expect("a header");
        writer.pins(&[traced.clone()]).expect("a frame");
        writer.end(&end()).expect("a frame");
        assert_eq!(read(&file).expect("a header").0, [traced.clone()]);
    }
    let of_format_2 = PinWithOutcome::new(&traced.event, &[], &mut 0);
    let body = Body::PinsWithOutcome(vec![of_format_2]);
    let mut file = recording(0);
    file.extend(frame(&postcard::to_allocvec(&body).unwrap()));
    let (pins, _) = read(&file).expect("a header");
    assert_eq!((pins.len(), pins[0].event.pin.blockers), (1, 0));
}
