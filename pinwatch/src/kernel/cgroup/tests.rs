//! `/proc/PID/cgroup` of many kinds of hosts, one file each in tests/data/cgroups.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::kernel::procfs;

macro_rules! id {
    () => {
        "3f4e9c1b7a2d58e6f0c4b1a29d8e7f6c5b4a39281706f5e4d3c2b1a0f9e8d7c6"
    };
}

const ID: &str = id!();
const POD: &str = "6d1f7c52-8a3b-4e0d-9c47-2b5e8f1a0d93";
const STATIC: &str = "f0e1d2c3b4a5968778695a4b3c2d1e0f";

/// File, and the expected container, pod and unit; empty if unknown.
const FILES: &[(&str, &str, &str, &str)] = &[
    ("containerd-ctr", "", "", ""),
    ("containerd-k8s-static-pod", ID, STATIC, ""),
    ("containerd-k8s-v1-cgroupfs", ID, POD, ""),
    ("containerd-k8s-v1-systemd", ID, POD, ""),
    ("containerd-k8s-v2-guaranteed", ID, POD, ""),
    (
        "containerd-k8s-v2-mixed-drivers",
        ID,
        POD,
        "containerd.service",
    ),
    ("containerd-k8s-v2-systemd", ID, POD, ""),
    ("containerd-kind", ID, POD, ""),
    (
        "crio-conmon",
        "",
        POD,
        concat!("crio-conmon-", id!(), ".scope"),
    ),
    ("crio-k8s-v1", ID, POD, ""),
    ("crio-k8s-v2", ID, POD, ""),
    ("docker-in-docker", ID, "", ""),
    ("docker-v1", ID, "", ""),
    ("docker-v1-hybrid", ID, "", "containerd.service"),
    ("docker-v2-cgroupfs", ID, "", ""),
    ("docker-v2-systemd", ID, "", ""),
    ("kernel-thread", "", "", ""),
    ("kernel-thread-v1", "", "", ""),
    (
        "podman-conmon",
        "",
        "",
        concat!("libpod-conmon-", id!(), ".scope"),
    ),
    ("podman-v1", ID, "", ""),
    ("podman-v2-quadlet", ID, "", "web.service"),
    ("podman-v2-root", ID, "", ""),
    ("podman-v2-rootless", ID, "", "user@1000.service"),
    ("systemd-delegated", "", "", "libvirtd.service"),
    ("systemd-deleted", "", "", "job.service"),
    (
        "systemd-escaped",
        "",
        "",
        "systemd-fsck@dev-disk-by\\x2duuid-1A2B.service",
    ),
    (
        "systemd-machine",
        "",
        "",
        "machine-qemu\\x2d1\\x2dguest.scope",
    ),
    ("systemd-service", "", "", "nginx.service"),
    ("systemd-session", "", "", "session-3.scope"),
    ("systemd-template", "", "", "postgresql@15-main.service"),
    ("systemd-user-service", "", "", "app-foot.service"),
    ("systemd-v1", "", "", "sshd.service"),
];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cgroups")
}

#[test]
fn every_file_is_parsed() {
    for (file, container, pod, unit) in FILES {
        let text = procfs::read(folder().join(file)).expect("a file of the table");
        let is = parse(&text);
        let shown = |id: &Option<String>| id.clone().unwrap_or_default();
        let all = [shown(&is.container), shown(&is.pod), shown(&is.unit)];
        assert_eq!(all, [*container, *pod, *unit], "{file}");
        let root = file.starts_with("kernel-thread");
        assert_eq!(
            is.path.as_deref() == Some("/"),
            root,
            "{file}: {:?}",
            is.path
        );
    }
}

#[test]
fn every_file_is_in_the_table() {
    let there = fs::read_dir(folder()).expect("a file of the table");
    let there = there.map(|file| {
        file.expect("readable")
            .file_name()
            .into_string()
            .expect("text")
    });
    let known = FILES.iter().map(|(file, ..)| (*file).to_owned());
    assert_eq!(there.collect::<BTreeSet<_>>(), known.collect());
}

#[test]
fn similar_texts_are_not_reported() {
    for path in [
        format!("/docker/{}", &ID[1..]),
        format!("/docker/{ID}0"),
        format!("/docker/{}g", &ID[1..]),
        "/kubepods/podcast-8a3b/x".to_owned(),
        format!("/tripod{POD}"),
        format!("/kubepods/pod{POD}0"),
        "/.service/.scope".to_owned(),
    ] {
        let Cgroup {
            container,
            pod,
            unit,
            ..
        } = parse(&format!("0::{path}\n"));
        assert_eq!((container, pod, unit), (None, None, None), "{path}");
    }
    assert_eq!(
        parse("nonsense\n\n::\n"),
        Cgroup {
            path: Some(String::new()),
            ..Cgroup::default()
        }
    );
    assert_eq!(parse(""), Cgroup::default());
}

proptest! {
    #[test]
    fn any_text_can_be_parsed(text in "(\\PC|\n|:|/){0,200}") {
        let Cgroup { path, container, pod, .. } = parse(&text);
        prop_assert!(path.is_none_or(|path| path.chars().count() <= MAX_PATH_CHARS));
        prop_assert!(container.is_none_or(|id| id.len() == 64));
        prop_assert!(pod.is_none_or(|uid| uid.len() == 36 || uid.len() == 32));
    }
}
