//! The files of a package beside the program: unit, DaemonSet, manual pages, completions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::CommandFactory as _;
use pinwatch::cli::Cli;

const UNIT: &str = include_str!("../../packaging/pinwatch.service");
const DAEMONSET: &str = include_str!("../../packaging/daemonset.yml");
const CHART: &str = include_str!("../../packaging/helm/pinwatch/Chart.yaml");
const VALUES: &str = include_str!("../../packaging/helm/pinwatch/values.yaml");

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

#[test]
fn systemd_rates_the_service_as_little_exposed() {
    // Tenths of a point, of 10 points. systemd 252 reports 1.5.
    const THRESHOLD: &str = "--threshold=15";
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", THRESHOLD])
        .arg(packaging().join("pinwatch.service"))
        .output()
        .expect("systemd-analyze starts: `cargo xtask setup` installs it");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("UTF-8");
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Overall exposure level"), "{said}");
}

/// Root in a container can open tracefs without CAP_DAC_OVERRIDE. It becomes another user after attaching.
#[test]
fn a_container_gets_the_capabilities_of_the_unit_but_starts_as_root() {
    let of_unit = |setting: &str| -> BTreeSet<_> {
        let line = UNIT.lines().find_map(|line| line.strip_prefix(setting));
        line.expect("it is set").split(' ').collect()
    };
    let ambient = of_unit("AmbientCapabilities=");
    assert_eq!(ambient, of_unit("CapabilityBoundingSet="));
    for (text, before) in [(DAEMONSET, "add: ["), (VALUES, "capabilities: [")] {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(before));
        let added = line
            .and_then(|line| line.strip_suffix(']'))
            .expect("a list");
        let added = added.split(", ").map(|name| format!("CAP_{name}"));
        let mut added: BTreeSet<_> = added.collect();
        for needed in ["CAP_SETGID", "CAP_SETUID"] {
            assert!(added.remove(needed), "{needed}");
        }
        added.insert("CAP_DAC_OVERRIDE".to_owned());
        assert_eq!(
            added.iter().map(String::as_str).collect::<BTreeSet<_>>(),
            ambient
        );
    }
}

#[test]
fn the_chart_has_the_version_of_the_program() {
    for key in ["version", "appVersion"] {
        let line = format!("\n{key}: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(CHART.contains(&line), "Chart.yaml has another {key}");
    }
    let image = concat!("image: pinwatch:", env!("CARGO_PKG_VERSION"));
    assert!(DAEMONSET.contains(image), "daemonset.yml has no {image}");
}

/// A folder that the volume creates would be a write to the host; Talos and Bottlerocket allow none.
#[test]
fn pods_write_nothing_to_the_host() {
    let template = include_str!("../../packaging/helm/pinwatch/templates/daemonset.yaml");
    for text in [DAEMONSET, template] {
        let host = text.lines().filter(|line| line.contains("hostPath: {"));
        let host: Vec<_> = host.collect();
        assert!(!host.is_empty(), "{text}");
        for line in host {
            assert!(line.contains("type: Directory}"), "{line}");
        }
        assert!(text.contains("readOnlyRootFilesystem: true"), "{text}");
    }
}

#[test]
fn a_reload_of_the_unit_reads_the_web_configuration_again() {
    let reload = UNIT.lines().find(|line| line.starts_with("ExecReload="));
    assert_eq!(reload, Some("ExecReload=/bin/kill -HUP $MAINPID"));
}

#[test]
fn every_command_has_a_manual_page_and_each_shell_its_completions() {
    let dir = tempfile::tempdir().expect("a folder");
    let manual = Command::new(env!("CARGO_BIN_EXE_pinwatch"))
        .arg("manual")
        .arg(dir.path())
        .status();
    assert!(manual.expect("it starts").success());
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    for command in Cli::command().get_subcommands() {
        if !command.is_hide_set() {
            let page = read(&format!("pinwatch-{}.1", command.get_name()));
            assert!(page.contains(".SH SYNOPSIS"), "{page}");
        }
    }
    assert!(read("pinwatch.1").contains("pinwatch\\-run(1)"));
    for file in ["pinwatch.bash", "_pinwatch", "pinwatch.fish"] {
        assert!(read(file).contains("stuck-after"), "{file}");
    }
}
