//! Names that an attacker chooses, in everything that the daemon serves.

use std::sync::Arc;

use bytemuck::Zeroable as _;
use pinwatch::model::series::{Per, Snapshot, Sums};
use pinwatch::model::stall::Stall;
use pinwatch::model::state::State;
use pinwatch::model::thread::{Thread, Threads};
use pinwatch::output::http::{Source, Web, router};
use pinwatch_common::record::Pin;
use prometheus::Registry;
use serde_json::Value;

use super::client::get;
use super::server::Server;

/// Ends a label, a line, a string, an element; controls a terminal; turns the text.
const NAME: &str = "x\"} 1\nup 1\n\\</script><img src=x>\u{1b}[2J\u{202e}'&\r";

fn state() -> State {
    let pin = Pin {
        tid: 7,
        ..Pin::zeroed()
    };
    let thread = Thread {
        comm: Some(NAME.to_owned()),
        cgroup: Some(NAME.to_owned()),
        ..Thread::default()
    };
    State {
        in_flight: vec![pin],
        threads: Threads::Recorded([(7, (thread, Stall::default()))].into()),
        series: Some(Snapshot {
            per: Per::Cgroup,
            all: vec![(vec![("cgroup", NAME.to_owned())].into(), Sums::default())],
            ..series()
        }),
        ..State::empty("6.12", "folios")
    }
}

fn series() -> Snapshot {
    pinwatch::model::series::Series::new(Per::Cgroup, std::num::NonZeroUsize::MIN).snapshot()
}

async fn server() -> Server {
    let source: Source = Arc::new(|| Some(state()));
    let web = Web {
        registry: Registry::new(),
        scraped: Arc::clone(&source),
        source,
        stacks: Arc::new(|_| None),
    };
    Server::of(router(web).expect("new")).await
}

#[tokio::test]
async fn no_name_adds_a_line_or_a_label_to_metrics() {
    let server = server().await;
    let label = NAME
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    for accept in ["text/plain", "application/openmetrics-text;version=1.0.0"] {
        let answer = get(server.address, "/metrics", &format!("Accept: {accept}\r\n")).await;
        assert!(
            answer.body.contains(&format!("cgroup=\"{label}\"")),
            "{accept}"
        );
        for line in answer.body.split('\n') {
            let known = ["", "#", "pinwatch_"]
                .iter()
                .any(|begin| line.starts_with(begin) && (!begin.is_empty() || line.is_empty()));
            assert!(known, "{accept}: {line:?}");
        }
    }
}

#[tokio::test]
async fn json_has_names_as_they_are_without_control_characters() {
    let server = server().await;
    for (path, pointer) in [("/in-flight", "/0"), ("/state", "/oldest/0")] {
        let answer = get(server.address, path, "").await;
        assert!(answer.head.contains("application/json"), "{}", answer.head);
        let mut characters = answer.body.chars().filter(|c| *c != '\n');
        let control = characters.find(|c| c.is_control());
        assert_eq!(control, None, "{path}");
        let all: Value = serde_json::from_str(&answer.body).expect("JSON");
        let pin = all.pointer(pointer).expect("a pin");
        for field in ["comm", "cgroup"] {
            assert_eq!(pin[field], NAME, "{path} {field}");
        }
    }
}
