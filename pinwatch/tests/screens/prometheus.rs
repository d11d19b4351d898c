//! The metrics in Debian's Prometheus: it scrapes the daemon's web server over TLS with a password and
//! evaluates recording rules, whose values must follow from the state.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use pinwatch::output::http::{Source, Web, router};
use pinwatch::web::host::Hosts;
use pinwatch::web::limits::Limits;
use pinwatch::web::reload::Current;
use pinwatch::web::serve::{bind, serve};
use prometheus::Registry;
use prometheus::process_collector::ProcessCollector;
use serde_json::Value;

use super::authority::{Authority, Identity};
use super::state::state;
use super::wait::{PATIENCE, wait_until};

const USER: &str = "prometheus";
const PASSWORD: &str = "a pass:word";
const NAME: &str = "pinwatch.test";

/// Recording rules: name, expression, and the value that follows from the state.
const RULES: &[(&str, &str, f64)] = &[
    ("t:pins", "sum(pinwatch_pins_total)", 1500.0),
    ("t:vfio", "pinwatch_pins_total{origin='vfio'}", 500.0),
    (
        "t:failed",
        "sum(pinwatch_pin_failures_total) / sum(pinwatch_pins_total)",
        0.1,
    ),
    (
        "t:busy",
        "sum(pinwatch_pin_failures_total{cause='migrate_busy'})",
        75.0,
    ),
    // 700 ns, 1400 ns, ... 1500 * 700 ns.
    (
        "t:median",
        "round(histogram_quantile(0.5, sum by (le) (pinwatch_pin_duration_seconds_bucket)) * 1e5) / 1e5",
        0.000_53,
    ),
    (
        "t:mean",
        "sum(pinwatch_pin_duration_seconds_sum) / sum(pinwatch_pin_duration_seconds_count)",
        0.000_525_35,
    ),
    (
        "t:phases",
        "sum(pinwatch_pin_phase_seconds_total) - sum(pinwatch_pin_duration_seconds_sum)",
        0.0,
    ),
    (
        "t:series",
        "sum(pinwatch_process_pins_total) - sum(pinwatch_pins_total)",
        0.0,
    ),
    (
        "t:qemu",
        "sum by (comm) (pinwatch_process_pins_total{comm='qemu', kind='process'})",
        700.0,
    ),
    (
        "t:passes",
        "sum(pinwatch_pin_passes_bucket{le='2'}) or sum(pinwatch_pin_passes_bucket{le='2.0'})",
        750.0,
    ),
    (
        "t:moved",
        "pinwatch_migrate_pages_total{result='succeeded'}",
        1500.0 * 16.0 - 150.0,
    ),
    ("t:oldest", "pinwatch_pin_in_flight_oldest_seconds", 75.0),
    ("t:stuck", "pinwatch_pins_stuck", 1.0),
    (
        "t:kernel",
        "pinwatch_kernel_info{release='6.12.0-test', era='folios'}",
        1.0,
    ),
    (
        "t:scrapes",
        "pinwatch_scrape_duration_seconds_count > bool 0",
        1.0,
    ),
    ("t:own", "process_resident_memory_bytes > bool 1e6", 1.0),
    ("t:up", "up{job='pinwatch'}", 1.0),
    ("t:refused", "up{job='stranger'}", 0.0),
];

fn web() -> Web {
    let source: Source = Arc::new(|| Some(state()));
    let registry = Registry::new();
    let process = ProcessCollector::for_self();
    registry.register(Box::new(process)).expect("new");
    Web {
        registry,
        scraped: Arc::clone(&source),
        source,
        stacks: Arc::new(|_| None),
    }
}

/// Serves the state with the web server of the daemon.
fn serve_state(config: Option<&Path>) -> SocketAddr {
    let current = Arc::new(Current::open(config).expect("a configuration"));
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let any = "127.0.0.1:0".parse().expect("an address");
            let listeners = bind(&[any]).await.expect("a port");
            tell.send(listeners[0].local_addr().expect("bound"))
                .expect("heard");
            let router = router(web()).expect("new");
            let served = serve(
                listeners,
                router,
                current,
                Limits::DEFAULT,
                Hosts::default(),
            )
            .await;
            served.map(|never| match never {}).expect("it serves");
        });
    });
    told.recv().expect("it listens")
}

/// Serves the state with TLS and a password. Writes the files for it to `folder`.
fn protected(folder: &Path) -> SocketAddr {
    let authority = Authority::new();
    let Identity { certificate, key } = authority.identity(NAME);
    let hash = bcrypt::hash(PASSWORD, 4).expect("a hash");
    for (name, text) in [
        ("ca.crt", authority.certificate()),
        ("server.crt", certificate),
        ("server.key", key),
        ("password", PASSWORD.to_owned()),
        (
            "web.yml",
            format!(
                "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  min_version: TLS13\n\
                 basic_auth_users:\n  {USER}: {hash}\n"
            ),
        ),
    ] {
        fs::write(folder.join(name), text).expect("written");
    }
    serve_state(Some(&folder.join("web.yml")))
}

/// A running Prometheus. Killed when dropped.
struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    fn start(folder: &Path, target: SocketAddr) -> Self {
        let job = |name: &str, user: &str| {
            format!(
                "- job_name: {name}\n  scheme: https\n  tls_config: {{ca_file: ca.crt, server_name: {NAME}}}\n  \
                 basic_auth: {{username: {user}, password_file: password}}\n  static_configs: [{{targets: ['{target}']}}]\n"
            )
        };
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\nrule_files: [rules.yml]\nscrape_configs:\n{}{}",
            job("pinwatch", USER),
            job("stranger", "stranger"),
        );
        let rules = RULES
            .iter()
            .map(|(name, query, _)| format!("  - record: {name}\n    expr: \"{query}\"\n"));
        let rules: String = rules.collect();
        fs::write(folder.join("prometheus.yml"), config).expect("written");
        fs::write(
            folder.join("rules.yml"),
            format!("groups:\n- name: t\n  rules:\n{rules}"),
        )
        .expect("written");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|any| any.local_addr());
        let address = free.expect("a port");
        let child = Command::new("prometheus")
            .current_dir(folder)
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={address}"))
            .stderr(fs::File::create(folder.join("log")).expect("a file"))
            .spawn();
        Self {
            child: child.expect("prometheus is in PATH: run `cargo xtask test`"),
            url: format!("http://{address}/api/v1/"),
        }
    }

    fn ask(&self, path: &str) -> Option<Value> {
        let answer = ureq::get(format!("{}{path}", self.url)).call();
        let text = answer.ok()?.body_mut().read_to_string().ok()?;
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        Some(answer["data"].clone())
    }

    /// The current value of a recording rule.
    fn recorded(&self, name: &str) -> Option<f64> {
        let data = self.ask(&format!("query?query={name}"))?;
        let value = data["result"][0]["value"][1].as_str()?;
        Some(value.parse().expect("a number"))
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn values_in_prometheus_equal_the_state() {
    let folder = tempfile::tempdir().expect("a folder");
    let prometheus = Prometheus::start(folder.path(), protected(folder.path()));
    let log = folder.path().join("log");
    for (name, _, value) in RULES {
        // The first evaluation may come before the second scrape.
        wait_until(&format!("{name} to be {value}"), PATIENCE, || {
            let is = prometheus.recorded(name);
            is.is_some_and(|is| (is - value).abs() < 1e-9)
        });
    }
    // Prometheus asks for OpenMetrics, which declares counters without the suffix `_total`.
    let about = prometheus
        .ask("targets/metadata?metric=pinwatch_pins")
        .expect("an answer");
    assert_eq!(about[0]["type"], "counter", "{about}");
    let log = fs::read_to_string(log).expect("a log");
    assert!(
        !log.contains("level=warn") && !log.contains("level=error"),
        "{log}"
    );
}

#[test]
fn promtool_has_no_complaints_about_the_metrics() {
    let address = serve_state(None);
    let url = format!("http://{address}/metrics");
    let scrape = || {
        let answer = ureq::get(&url)
            .call()
            .expect("it answers")
            .body_mut()
            .read_to_string();
        answer.expect("text")
    };
    // The first response contains no scrape durations yet.
    scrape();
    let text = scrape();
    assert!(
        text.contains("\npinwatch_scrape_duration_seconds_count 1\n"),
        "{text}"
    );
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in PATH: run `cargo xtask test`");
    let mut stdin = promtool.stdin.take().expect("piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");
    assert!(output.status.success());
}

#[test]
fn responses_are_compressed_and_formatted_as_requested() {
    let address = serve_state(None);
    let scrape = |headers: &str| {
        let mut stream = std::net::TcpStream::connect(address).expect("it listens");
        let ask = format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"
        );
        stream.write_all(ask.as_bytes()).expect("it reads");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("it answers");
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .expect("an answer");
        let body = bytes.split_off(end + 4);
        (
            String::from_utf8(bytes).expect("text").to_ascii_lowercase(),
            body,
        )
    };
    let (head, plain) = scrape("");
    assert!(!head.contains("content-encoding"), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    let (head, small) = scrape("Accept-Encoding: gzip\r\nAccept: application/openmetrics-text\r\n");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    assert!(
        small.len() * 4 < plain.len(),
        "{} of {}",
        small.len(),
        plain.len()
    );
}
