//! Claims of `pinwatch report`, and what-if rules.

use pinwatch::host::machine::FollPins;
use pinwatch::model::trace::Pass;
use pinwatch_common::cause::PassOutcome;
use pinwatch_common::record::Pin;

use crate::support::*;

#[test]
fn report_judges_claims_and_applies_what_if_rules() {
    let folder = Folder::new("claims");
    let file = folder.file("pins");
    let kernel = Kernel {
        fails: 0.5,
        moves: true,
        ..OLD
    };
    record(&file, kernel, 4000, 3);
    let rules = [
        "--what-if=migrate-max=10,isolate-max=100",
        "--what-if=forward-progress",
    ];
    let output = pinwatch(&["report", "--json", rules[0], rules[1]], &[&file]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let verdicts: Vec<_> = json["claims"]
        .as_array()
        .expect("claims")
        .iter()
        .map(|claim| {
            format!(
                "{} {}",
                claim["id"].as_str().unwrap_or_default(),
                claim["verdict"].as_str().unwrap_or_default()
            )
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            "C1 refuted",
            "C2 refuted",
            "C3 not_enough_data",
            "C4 not_enough_data",
            "C5 refuted",
            "C6 supported",
            "C7 refuted",
            "C8 not_enough_data",
            "C9 not_measured",
            "C10 not_enough_data",
        ]
    );
    assert_eq!(json["what_if"]["outcomes"][0]["would_fail"], 0);
    assert_eq!(
        pinwatch(&["report", "--what-if=never"], &[&file])
            .status
            .code(),
        Some(2)
    );
}

/// Version 4 of December 2020 returns -EBUSY for both kinds of failure.
#[test]
fn failures_in_migration_are_counted_whatever_the_errno() {
    let folder = Folder::new("errno");
    let file = folder.file("pins");
    let of = |outcome: PassOutcome, returned| Pin {
        returned,
        outcome: outcome as u8,
        ..busy()
    };
    let pins = [-16, -12, -11, -5]
        .map(|errno| load(of(PassOutcome::Busy, errno)))
        .to_vec();
    let stuck = load(of(PassOutcome::NotIsolated, -16));
    write(&file, &[pins, vec![stuck]].concat(), unchanged);
    let report = text(&pinwatch(&["report"], &[&file]));
    assert!(report.contains("failed in migration: 4\n"), "{report}");
    assert!(report.contains("EBUSY (isolate)"), "{report}");
}

#[test]
fn each_pass_counts_for_transient_isolation_failures() {
    let folder = Folder::new("each-pass");
    let file = folder.file("pins");
    let transient = vec![passing(256, vec![isolating(1), isolating(0)]); 60];
    write(&file, &transient, unchanged);
    assert_eq!(verdict(&file, "C3"), "supported ");
    // 16 passes alone, and a sum of 4 million; and the same in flight.
    let mut passes = vec![isolating(1); 16];
    passes.push(isolating(4_000_000));
    let endless = passing(-4, passes);
    write(&file, &[&transient[..], &[endless]].concat(), unchanged);
    assert_eq!(verdict(&file, "C3"), "refuted ");
    write(&file, &transient, |_, end| {
        in_flight(end, 3_900_000_000_000, vec![looping()]);
    });
    assert_eq!(verdict(&file, "C3"), "refuted ");
    // A sum whose last pass succeeds.
    let sum = Pass {
        passes: 3,
        ..isolating(1)
    };
    write(
        &file,
        &vec![passing(256, vec![isolating(1), sum]); 60],
        unchanged,
    );
    let output = pinwatch(&["report"], &[&file]);
    assert!(
        text(&output).contains("without another: 60 of 120"),
        "{}",
        text(&output)
    );
}

#[test]
fn claims_need_enough_data_of_their_kind() {
    let folder = Folder::new("enough");
    let file = folder.file("pins");
    // One retry of 512 pages is one trial.
    let retry = Pass {
        passes: 1,
        unpinnable: 512,
        moved: 512,
        migrate_calls: 1,
        repinned: 512,
        phase_ns: [3000, 1000, 0, 2000, 0],
        ..Pass::default()
    };
    let mut migrating = passing(512, vec![retry, isolating(0)]);
    migrating.event.pin.requested = 512;
    write(&file, std::slice::from_ref(&migrating), unchanged);
    assert!(verdict(&file, "C6").starts_with("not_enough_data about 127 more passes"));
    write(&file, &vec![migrating; 200], unchanged);
    assert_eq!(verdict(&file, "C6"), "supported ");
    // One failed pin says nothing about its group.
    write(&file, &[load(busy())], unchanged);
    assert!(verdict(&file, "C7").starts_with("not_enough_data about 127 more pins"));
    write(&file, &vec![load(busy()); 200], unchanged);
    assert_eq!(verdict(&file, "C7"), "supported ");
    let mixed = [vec![load(busy()); 200], vec![load(plain()); 3]].concat();
    write(&file, &mixed, unchanged);
    assert_eq!(verdict(&file, "C7"), "refuted ");
    // 40 kinds of pins, each of which always fails or never; the last 8 are in one group.
    let kinds = (0..40u8).flat_map(|kind| {
        let comm = String::from_utf8(vec![b't', b'a' + kind % 26, b'a' + kind / 26]);
        let pin = if kind % 2 == 1 { busy() } else { plain() };
        vec![named(&comm.expect("letters"), pin); 5]
    });
    write(&file, &kinds.collect::<Vec<_>>(), unchanged);
    assert_eq!(verdict(&file, "C7"), "supported ");
}

#[test]
fn foll_write_is_judged_within_an_origin() {
    const VFIO: u8 = 4;
    const IO_URING: u8 = 1;
    const READ: u32 = 0x100;
    const WRITE: u32 = 0x101;
    let folder = Folder::new("flags");
    let file = folder.file("pins");
    let half_fail = |origin, gup_flags| {
        (0..200).map(move |n| {
            let returned = if n % 2 == 0 { 256 } else { -12 };
            let pin = Pin {
                returned,
                origin,
                gup_flags,
                ..plain()
            };
            named("qemu", pin)
        })
    };
    let all_succeed = |origin, gup_flags| {
        let pin = Pin {
            origin,
            gup_flags,
            ..plain()
        };
        vec![named("qemu", pin); 200]
    };
    let judge = |read: Vec<_>, with_write: Vec<_>| {
        write(&file, &[read, with_write].concat(), unchanged);
        verdict(&file, "C8")
    };
    let unknown = "not_enough_data about 128 more pins without FOLL_WRITE of an origin that also makes pins with it";
    let broken = half_fail(VFIO, READ).collect::<Vec<_>>();
    assert_eq!(
        judge(broken.clone(), all_succeed(VFIO, WRITE)),
        "supported "
    );
    // Both fail alike, or neither does.
    let busy = half_fail(VFIO, WRITE).collect();
    assert!(judge(broken.clone(), busy).starts_with("not_enough_data"));
    let fine = all_succeed(VFIO, READ);
    assert_eq!(judge(fine.clone(), all_succeed(VFIO, WRITE)), "refuted ");
    // Failures of another origin say nothing about FOLL_WRITE.
    let other = half_fail(IO_URING, WRITE).collect();
    assert_eq!(judge(fine, other), unknown);
    assert_eq!(judge(broken, all_succeed(IO_URING, WRITE)), unknown);
    // Pins by memfd_pin_folios have no flags.
    let memfd = half_fail(VFIO, 0).collect();
    assert_eq!(judge(memfd, all_succeed(VFIO, WRITE)), unknown);
}

#[test]
fn leaks_cannot_be_told_when_fewer_pages_are_pinned_at_the_end() {
    let folder = Folder::new("leaks");
    let file = folder.file("pins");
    for (released, wanted) in [
        (768, "supported "),
        (
            1_000_200,
            "not_enough_data a recording during which nobody unpins pages that were pinned before it",
        ),
        (
            668,
            "not_enough_data an end of the recording at which nobody holds pins that succeeded",
        ),
    ] {
        write(&file, &vec![load(busy()); 3], |header, end| {
            let pins = |acquired, released| FollPins { acquired, released };
            header.machine.foll_pins = Some(pins(2_000_000, 0));
            end.foll_pins = Some(pins(2_000_768, released));
        });
        assert_eq!(verdict(&file, "C9"), wanted);
    }
}
