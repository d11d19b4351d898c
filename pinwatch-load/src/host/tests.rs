//! Sessions, the changes that they make and restore, and the consent that these need.

use std::fs;

use nix::unistd::Pid;

use super::change::Change;
use super::disruption::{consent, possible};
use super::fake::Fake;
use super::pci::tests::{ADDRESS, FakeDevice};
use super::session::{Session, restore_now};
use super::state_file::path;
use super::{hugetlb_pool, pci, prepare, recovery, rt_throttling};
use crate::error::Unavailable;
use crate::plan::Plan;
use crate::scenarios::{self, SCENARIOS};
use crate::spec::{Pages, huge};

fn session(fake: &Fake, allowed: bool) -> Session {
    Session::new(fake.host.clone(), &fake.folder, allowed)
}

/// A load that makes its changes and is killed.
fn killed(fake: &Fake, changes: impl FnOnce(&Session)) {
    let mut session = session(fake, true);
    changes(&session);
    session.owner = Pid::from_raw(1);
}

fn has_state(fake: &Fake) -> bool {
    path(&fake.folder).exists()
}

#[test]
fn the_host_is_restored_at_the_end() {
    let fake = Fake::new();
    let session = session(&fake, true);
    prepare::switch_throttling_off(&session).unwrap();
    assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
    assert!(has_state(&fake));
    drop(session);
    assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
    assert!(!has_state(&fake));
}

#[test]
fn nothing_changes_without_consent() {
    let fake = Fake::new();
    let session = session(&fake, false);
    let refused = prepare::switch_throttling_off(&session).unwrap_err();
    assert!(refused.is::<Unavailable>());
    assert!(refused.to_string().contains("--disruptive"), "{refused}");
    assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
    assert!(!fake.folder.exists());
}

#[test]
fn the_old_value_is_recorded_before_the_change() {
    let fake = Fake::new();
    let session = session(&fake, true);
    let change = Change::RtThrottling { before: 950_000 };
    session
        .make(change, |_| {
            assert!(has_state(&fake));
            assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
            Ok(())
        })
        .unwrap();
}

#[test]
fn throttling_that_is_off_stays_off() {
    let fake = Fake::new();
    fake.set(rt_throttling::SYSCTL, "-1\n");
    let session = session(&fake, false);
    prepare::switch_throttling_off(&session).unwrap();
    drop(session);
    assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
}

#[test]
fn a_value_that_somebody_changed_since_stays() {
    let fake = Fake::new();
    let session = session(&fake, true);
    prepare::switch_throttling_off(&session).unwrap();
    fake.set(rt_throttling::SYSCTL, "700000\n");
    drop(session);
    assert_eq!(fake.get(rt_throttling::SYSCTL), "700000");
    assert!(!has_state(&fake));
}

#[test]
fn a_pool_that_grows_too_little_is_restored() {
    let fake = Fake::new();
    let session = session(&fake, true);
    // The fake kernel adds no free page.
    let refused = prepare::free_huge_pages(&session, 3).unwrap_err();
    assert!(refused.is::<Unavailable>(), "{refused:#}");
    assert_eq!(fake.get(&hugetlb_pool::size()), "3");
    drop(session);
    assert_eq!(fake.get(&hugetlb_pool::size()), "1");
}

#[test]
fn a_pool_with_free_pages_stays() {
    let fake = Fake::new();
    prepare::free_huge_pages(&session(&fake, false), 1).unwrap();
    assert_eq!(fake.get(&hugetlb_pool::size()), "1");
}

#[test]
fn a_second_disruptive_load_waits() {
    let fake = Fake::new();
    let first = session(&fake, true);
    prepare::switch_throttling_off(&first).unwrap();
    let refused = prepare::free_huge_pages(&session(&fake, true), 3).unwrap_err();
    assert!(refused.to_string().contains("running"), "{refused}");
}

#[test]
fn the_next_start_restores_after_a_kill() {
    let fake = Fake::new();
    killed(&fake, |session| {
        prepare::switch_throttling_off(session).unwrap();
        let _ = prepare::free_huge_pages(session, 3);
    });
    assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
    recovery::recover(&fake.host, &fake.folder);
    assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
    assert_eq!(fake.get(&hugetlb_pool::size()), "1");
    assert!(!has_state(&fake));
}

#[test]
fn a_change_that_cannot_be_undone_stays_recorded() {
    let fake = Fake::new();
    killed(&fake, |session| {
        prepare::switch_throttling_off(session).unwrap()
    });
    let text = fs::read_to_string(path(&fake.folder)).unwrap();
    let text = text.replace(&format!("\"pid\":{}", std::process::id()), "\"pid\":7");
    fs::write(path(&fake.folder), &text).unwrap();
    fs::remove_file(fake.host.path(rt_throttling::SYSCTL)).unwrap();
    recovery::recover(&fake.host, &fake.folder);
    assert_eq!(fs::read_to_string(path(&fake.folder)).unwrap(), text);
}

#[test]
fn changes_of_an_earlier_boot_are_not_restored() {
    let fake = Fake::new();
    killed(&fake, |session| {
        prepare::switch_throttling_off(session).unwrap()
    });
    fake.set("proc/sys/kernel/random/boot_id", "next-boot\n");
    recovery::recover(&fake.host, &fake.folder);
    assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
    assert!(!has_state(&fake));
}

#[test]
fn an_unreadable_state_file_stays_and_blocks_changes() {
    let fake = Fake::new();
    killed(&fake, |session| {
        prepare::switch_throttling_off(session).unwrap()
    });
    fs::write(path(&fake.folder), "{").unwrap();
    recovery::recover(&fake.host, &fake.folder);
    assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
    assert!(has_state(&fake));
    fake.set(rt_throttling::SYSCTL, "950000\n");
    let refused = prepare::switch_throttling_off(&session(&fake, true)).unwrap_err();
    assert!(refused.is::<Unavailable>(), "{refused:#}");
}

#[test]
fn a_second_signal_restores_the_current_session() {
    let fake = Fake::new();
    let session = session(&fake, true);
    session.become_current();
    prepare::switch_throttling_off(&session).unwrap();
    restore_now();
    assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
    assert!(!has_state(&fake));
}

#[test]
fn a_forked_child_restores_nothing() {
    let fake = Fake::new();
    killed(&fake, |session| {
        prepare::switch_throttling_off(session).unwrap()
    });
    assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
    assert!(has_state(&fake));
}

#[test]
fn a_failed_change_is_undone_and_forgotten() {
    let fake = Fake::new();
    let session = session(&fake, true);
    let change = Change::RtThrottling { before: 950_000 };
    let failed = session.make(change, |host| {
        host.write(rt_throttling::SYSCTL, "-1")?;
        anyhow::bail!("half-way")
    });
    assert_eq!(failed.unwrap_err().to_string(), "half-way");
    assert_eq!(fake.get(rt_throttling::SYSCTL), "950000");
    assert!(!has_state(&fake));
}

#[test]
fn a_running_load_is_left_alone() {
    let fake = Fake::new();
    let session = session(&fake, true);
    prepare::switch_throttling_off(&session).unwrap();
    recovery::recover(&fake.host, &fake.folder);
    assert_eq!(fake.get(rt_throttling::SYSCTL), "-1");
}

#[test]
fn a_device_that_vfio_pci_refuses_is_given_back() {
    let device = FakeDevice::new();
    let session = session(&device.0, true);
    // The fake kernel binds no driver.
    let refused =
        prepare::take_pci_device(&session, &pci::Address::parse(ADDRESS).unwrap()).unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused:#}");
    assert_eq!(device.0.get(&FakeDevice::file("driver_override")), "");
    assert!(!has_state(&device.0));
}

fn plan(scenario: &str) -> Plan {
    scenarios::find(scenario).plan.clone()
}

#[test]
fn disruptive_scenarios() {
    let disruptive: Vec<_> = SCENARIOS
        .iter()
        .filter(|row| !possible(&row.plan).is_empty())
        .map(|row| row.name)
        .collect();
    assert_eq!(
        disruptive,
        [
            "hugetlb",
            "vfio",
            "vfio-read-only",
            "vfio-zero-page",
            "rdma",
            "rdma-write",
            "rdma-read-only",
            "rdma-zero-page",
            "locked",
            "writeback",
            "shortage",
            "starved",
            "drain",
            "no-progress"
        ]
    );
}

#[test]
fn the_refusal_has_the_effect_and_the_flag() {
    let fake = Fake::new();
    for (scenario, effect) in [
        ("shortage", "OOM killer"),
        ("starved", "kernel.sched_rt_runtime_us"),
        ("hugetlb", "nr_hugepages"),
    ] {
        let refused = consent(&plan(scenario), &fake.host, false).unwrap_err();
        assert!(refused.is::<Unavailable>());
        let text = refused.to_string();
        assert!(
            text.contains(effect) && text.contains("--disruptive"),
            "{text}"
        );
        consent(&plan(scenario), &fake.host, true).unwrap();
    }
}

#[test]
fn harmless_loads_need_no_consent() {
    let fake = Fake::new();
    for scenario in ["touched", "threads", "vfio", "rdma", "contention"] {
        consent(&plan(scenario), &fake.host, false).unwrap();
    }
    // One huge page is free.
    let hugetlb = Plan {
        pages: Pages::Count(huge()),
        ..plan("hugetlb")
    };
    consent(&hugetlb, &fake.host, false).unwrap();
}

#[test]
fn a_pci_device_with_a_driver_needs_consent() {
    let fake = Fake::new();
    let vfio = Plan {
        device: Some("0000:00:05.0".to_owned()),
        ..plan("vfio")
    };
    assert!(consent(&vfio, &fake.host, false).is_err());
}
