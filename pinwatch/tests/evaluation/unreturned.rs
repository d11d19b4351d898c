//! Pins that do not return.

use std::fs;

use pinwatch_common::record::Pin;

use crate::support::*;

#[test]
fn pins_that_do_not_return_make_a_kernel_worse() {
    let folder = Folder::new("hang");
    let (base, new) = (folder.file("base"), folder.file("new"));
    let pins = vec![load(plain()); 60];
    write(&base, &pins, unchanged);
    let now_ns = 3_900_000_000_000;
    // Beside 60 pins that end, and alone.
    for pins in [&pins[..], &[]] {
        write(&new, pins, |_, end| {
            in_flight(end, now_ns, vec![looping(); 4]);
        });
        let (status, shown) = compared(&base, &new, &[]);
        assert_eq!(status, Some(1), "{shown}");
        assert!(
            shown.contains("pins that do not return     0.00 -> 4.00")
                && shown.contains("in flight for 1h04m: looping on isolation: 4000000 passes"),
            "{shown}"
        );
    }
    assert_eq!(compared(&new, &base, &[]).0, Some(0));
    assert_eq!(compared(&new, &new, &[]).0, Some(0));
    // A signal ended it after 20 s.
    let killed = Pin {
        duration_ns: 20_000_000_000,
        returned: -4,
        ..looping()
    };
    write(&new, &[&pins[..], &[load(killed)]].concat(), unchanged);
    assert_eq!(compared(&base, &new, &[]).0, Some(1));
    // Pins of the base last longer, or the pin is young.
    let slow = Pin {
        duration_ns: 30_000_000_000,
        ..plain()
    };
    for (slow, age_ns) in [(slow, 25_000_000_000), (plain(), 9_000_000_000)] {
        write(&base, &[&pins[..], &[load(slow)]].concat(), unchanged);
        write(&new, &pins, |_, end| {
            in_flight(end, age_ns, vec![looping()]);
        });
        let (status, shown) = compared(&base, &new, &[]);
        assert_eq!(status, Some(0), "{shown}");
    }
    // What a cut recording had in flight is unknown.
    let whole = fs::read(&new).expect("it is written");
    fs::write(&new, &whole[..whole.len() - 10]).expect("written");
    let (status, shown) = compared(&base, &new, &[]);
    assert_eq!(status, Some(0), "{shown}");
    assert!(
        shown.contains("pins that do not return: a recording of new was cut short"),
        "{shown}"
    );
}
