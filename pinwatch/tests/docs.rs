//! The generated docs equal the tables in the code. `cargo xtask docs` writes them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use pinwatch::cli::config::settings;
use pinwatch::evaluation::capture;
use pinwatch::kernel::defects::defects;
use pinwatch::kernel::facts::Facts;
use pinwatch::model::view::View;
use pinwatch::output::http::SCRAPE_SECONDS;
use pinwatch::output::metrics::{Kind, METRICS};
use pinwatch::probe::plan::{Plan, Selection};
use pinwatch::probe::table::{Hook, ROWS};
use pinwatch::web::reload::LAST_RELOAD;
use serde_json::{Value, json};

/// Compares docs/`file` with its generated text. With `PINWATCH_UPDATE_DOCS` set, writes it first.
fn assert_current(file: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(file);
    if std::env::var_os("PINWATCH_UPDATE_DOCS").is_some() {
        std::fs::write(&path, made).expect("docs can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == made,
        "docs/{file} is stale: run `cargo xtask docs` and commit the result"
    );
}

/// The same for the text between two markers of a document.
fn assert_part_is_current(file: &str, marker: &str, made: &str) {
    let path = format!("{}/../docs/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect(file);
    let (open, close) = (
        format!("<!-- {marker} -->\n"),
        format!("<!-- /{marker} -->"),
    );
    let (before, rest) = text.split_once(&open).expect("the first marker");
    let (_, after) = rest.split_once(&close).expect("the second marker");
    assert_current(file, &format!("{before}{open}{made}{close}{after}"));
}

#[test]
fn metrics_md_is_current() {
    let mut text = String::from(
        "# Metrics\n\nGenerated from `METRICS` in `pinwatch/src/output/metrics/table.rs`. Times are in seconds, pages in base\n\
         pages unless said otherwise. Counters of pins move when a pin returns.\n\n\
         | Metric | Type | Meaning |\n|---|---|---|\n",
    );
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        writeln!(text, "| `{}` | {kind} | {} |", metric.name, metric.help).expect("a String");
    }
    for (kind, (name, help)) in [("histogram", SCRAPE_SECONDS), ("gauge", LAST_RELOAD)] {
        writeln!(text, "| `{name}` | {kind} | {help} |").expect("a String");
    }
    text.push_str(include_str!("data/metrics-notes.md"));
    assert_current("metrics.md", &text);
}

/// Live tests of faults, by their files.
const FAULTS: [(&str, &str); 5] = [
    ("faults", include_str!("live/faults.rs")),
    ("mounts", include_str!("live/mounts.rs")),
    ("kills", include_str!("live/kills.rs")),
    ("restart", include_str!("live/restart.rs")),
    ("surroundings", include_str!("live/surroundings.rs")),
];

/// The names of the tests are sentences.
#[test]
fn reliability_md_lists_every_fault() {
    let mut made = String::from("| What is tried | Test |\n|---|---|\n");
    for (file, source) in FAULTS {
        let tests = source.split("#[test]\n").skip(1);
        for test in tests {
            let (_, name) = test.split_once("fn ").expect("a function");
            let (name, _) = name.split_once('(').expect("a function");
            made += &format!("| {} | `{file}` |\n", name.replace('_', " "));
        }
    }
    assert_part_is_current("reliability.md", "faults", &made);
}

#[test]
fn probes_md_is_current() {
    let mut text = String::from(
        "# Probes\n\nGenerated from `ROWS` in `pinwatch/src/probe/table.rs`: every way to take each measurement, best first. \
         `pinwatch check` says\nwhich of them a kernel gets. Where the kernel can preempt BPF programs, each tracing program (fentry, fexit, \
         raw tracepoint)\nhas twins, with the suffixes `_first` (if it does other than alone), `_second` and `_third`: [reliability.md](reliability.md) says why.\n\n| Measurement | Hook | Programs |\n|---|---|---|\n",
    );
    for row in ROWS {
        let (place, twins, probe) = match row.hook {
            Hook::Entry {
                function,
                fentry,
                kprobe,
            } => (format!("`{function}` entry"), fentry, kprobe),
            Hook::Return {
                function,
                fexit,
                kretprobe,
            } => (format!("`{function}` return"), fexit, kretprobe),
            Hook::Tracepoint { name, programs } => {
                (format!("tracepoint `{name}`"), Some(programs), None)
            }
        };
        let programs = [
            twins.map(|twins| twins.alone),
            probe.map(|probe| probe.alone),
        ];
        let programs: Vec<_> = programs
            .into_iter()
            .flatten()
            .map(|name| format!("`{name}`"))
            .collect();
        writeln!(
            text,
            "| {} | {place} | {} |",
            row.measurement.name(),
            programs.join(", ")
        )
        .expect("a String");
    }
    assert_current("probes.md", &text);
}

#[test]
fn configuration_md_is_current() {
    let mut text = String::from(
        "# Configuration of `pinwatch run`\n\nGenerated from the command line. A flag overrides the environment, and the \
         environment overrides the file.\n\n| Flag | Environment | Key of `--config` | Default | Meaning |\n|---|---|---|---|---|\n",
    );
    let code = |text: &str| match text {
        "" => String::new(),
        text => format!("`{text}`"),
    };
    for setting in settings() {
        let row = [
            code(&setting.flag),
            code(setting.env.as_deref().unwrap_or_default()),
            code(setting.key.as_deref().unwrap_or_default()),
            code(&setting.default),
            setting.help.replace('\n', " "),
        ];
        writeln!(text, "| {} |", row.join(" | ")).expect("a String");
    }
    text.push_str(include_str!("data/configuration-notes.md"));
    assert_current("configuration.md", &text);
}

/// Fields whose value is an object with data as keys: zones, files, functions.
const KEYED_BY_DATA: [&str; 10] = [
    "zones",
    "thp",
    "hugetlb",
    "functions",
    "tracepoints",
    "constants",
    "members",
    "lengths",
    "symbols",
    "suffixed",
];

/// Panics unless docs/json.md, in `listed`, names every field of a value.
fn assert_keys_are_listed(output: &str, value: &Value, listed: &str) {
    match value {
        Value::Array(values) => values
            .iter()
            .for_each(|value| assert_keys_are_listed(output, value, listed)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let is_listed = listed.contains(&format!("`{key}`"))
                    || listed.contains(&format!(".{key}`"))
                    || listed.contains(&format!("\"{key}\":"));
                assert!(
                    is_listed,
                    "docs/json.md does not list the field `{key}` of {output}"
                );
                if !KEYED_BY_DATA.contains(&key.as_str()) {
                    assert_keys_are_listed(output, value, listed);
                }
            }
        }
        _ => {}
    }
}

/// Runs pinwatch in the folder of the recordings and returns its JSON values, one or one per line.
fn output_of(args: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_pinwatch"))
        .args(args)
        .current_dir(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/recordings"
        ))
        .output()
        .expect("pinwatch starts");
    let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
    let values: Vec<_> = values.collect::<Result<_, _>>().expect("JSON");
    assert!(!values.is_empty(), "{args:?}: {output:?}");
    values
}

/// docs/json.md lists every field that the commands and the HTTP server write. `load` would pin pages and
/// is not checked.
#[test]
fn json_md_lists_every_field() {
    let listed = include_str!("../../docs/json.md");
    let commands: [&[&str]; 3] = [
        &["tail", "--json", "--replay", "6.12.pw"],
        &[
            "report",
            "6.12.pw",
            "--json",
            "--what-if",
            "immediate",
            "--what-if",
            "forward-progress",
        ],
        &[
            "compare", "5.10.pw", "6.12.pw", "--json", "--allow", "hooks",
        ],
    ];
    for args in commands {
        for value in output_of(args) {
            assert_keys_are_listed(&args.join(" "), &value, listed);
        }
    }
    let sheet = include_str!("data/facts/7.3-cloud.json");
    let facts: Facts = serde_json::from_str(sheet).expect("a fact sheet");
    let plan = Plan::new(&facts, Selection::default());
    let defects: Vec<_> = defects(&facts).collect();
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/recordings/6.12.pw");
    let mut state = capture::read(Path::new(recording), &[], |_| ())
        .expect("a recording")
        .state;
    state.in_flight.push(bytemuck::Zeroable::zeroed());
    for (output, value) in [
        ("check --json", json!([plan, defects])),
        ("check --facts", json!(facts)),
        ("/state", json!(View::new(&state))),
    ] {
        assert_keys_are_listed(output, &value, listed);
    }
}

/// The worked example shows lines of real output. A line with `...` is shortened, and the last section
/// before the conclusions has recordings that are not in the source.
#[test]
fn comparison_md_shows_real_output() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pinwatch"))
            .args(args)
            .current_dir(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/data/recordings"
            ))
            .output()
            .expect("pinwatch starts");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).expect("UTF-8")
    };
    let files = ["compare", "5.10.pw", "6.12.pw"];
    let allowed = |more: &[&'static str]| run(&[&files[..], &["--allow", "hooks"], more].concat());
    let real = [
        run(&files),
        allowed(&["--all"]),
        allowed(&["--format", "mail"]),
        run(&["report", "6.12.pw"]),
    ]
    .concat();
    let real: Vec<_> = real.lines().map(str::trim_end).collect();
    let page = include_str!("../../docs/comparison.md");
    let sections = page.split("\n## ");
    let shown = sections
        .filter(|section| !section.starts_with("Pins that do not return"))
        .flat_map(|section| section.split("```text\n").skip(1))
        .flat_map(|block| block.split("```").next().unwrap_or_default().lines());
    let mut checked = 0;
    for line in shown.filter(|line| !line.contains("...")) {
        checked += 1;
        assert!(
            real.contains(&line.trim_end()) || line.ends_with("--all lists them"),
            "docs/comparison.md shows a line that pinwatch does not write: {line}"
        );
    }
    assert!(checked > 30, "{checked} lines");
}
