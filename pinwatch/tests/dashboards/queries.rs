//! Every query names existing metrics and labels, and Prometheus answers it from the scrapes of two hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::env;

use pinwatch::output::metrics::{Kind, METRICS, for_each_family};
use serde_json::Value;

use super::files::{alerts, dashboard_queries, variables};
use super::prometheus::{Host, Prometheus};
use super::state::{RELEASES, serve, state};

/// Words of PromQL, labels of Prometheus and metrics of others that the queries use. All other words must be
/// metrics or labels of pinwatch.
const WORDS: [&str; 22] = [
    "and",
    "by",
    "count",
    "group_left",
    "histogram_quantile",
    "ignoring",
    "increase",
    "last_over_time",
    "max",
    "on",
    "or",
    "rate",
    "sum",
    "topk",
    "unless",
    "vector",
    "le",
    "job",
    "instance",
    "up",
    "process_resident_memory_bytes",
    "release",
];

/// Expression and legend of each query of the dashboards, value and summary of each alert.
fn queries() -> Vec<(String, String)> {
    let alerts = alerts();
    let alerts = alerts
        .iter()
        .map(|alert| (alert.value().to_owned(), alert.annotations.summary.clone()));
    dashboard_queries().into_iter().chain(alerts).collect()
}

/// The labels of each exported metric.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let mut labels = BTreeMap::new();
    for_each_family(Some(&state(RELEASES[0], 1)), &[], |name, _, _, samples| {
        let names: &mut BTreeSet<_> = labels.entry(name.to_owned()).or_default();
        samples.for_each_sorted(|sample| {
            names.extend(sample.labels().map(|(name, _)| name.to_owned()));
        });
    });
    labels
}

/// Words of an expression outside strings, except numbers, durations and variables.
fn names(expr: &str) -> impl Iterator<Item = &str> {
    let code = expr.split('"').step_by(2);
    let words = code
        .flat_map(|code| code.split(|c: char| !(c.is_ascii_alphanumeric() || "_$".contains(c))));
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
}

#[test]
fn queries_name_only_exported_metrics_and_their_labels() {
    let exported = exported();
    let of_histograms = METRICS
        .iter()
        .filter(|metric| metric.kind == Kind::Histogram);
    let series: BTreeMap<_, _> = of_histograms
        .flat_map(|metric| {
            ["_bucket", "_sum", "_count"].map(|end| (format!("{}{end}", metric.name), metric.name))
        })
        .collect();
    for (expr, _) in queries() {
        let (mut labels, mut unknown) = (BTreeSet::new(), Vec::new());
        for name in names(&expr).filter(|name| !WORDS.contains(name)) {
            let metric = series.get(name).copied().unwrap_or(name);
            match exported.get(metric) {
                Some(of_metric) => labels.extend(of_metric.clone()),
                None => unknown.push(name),
            }
        }
        unknown.retain(|name| !labels.contains(*name));
        assert!(unknown.is_empty(), "unknown names {unknown:?} in {expr}");
    }
}

/// The operators of an expression at each depth of parentheses, one list for each pair of parentheses.
/// Commas separate operands too. Text in quotes, braces and brackets has no operators.
fn operators(expr: &str) -> Vec<Vec<&str>> {
    let (mut open, mut closed) = (vec![Vec::new()], Vec::new());
    for code in expr.split('"').step_by(2) {
        let code = code.split(['{', '[']).map(|code| {
            code.split_once(['}', ']'])
                .map_or(code, |(_, outside)| outside)
        });
        for word in code.flat_map(|code| code.split_inclusive(['(', ')', ',', ' '])) {
            let end = word.chars().next_back().expect("not empty");
            let name = word.trim_end_matches(['(', ')', ',', ' ']);
            if [
                "and", "or", "unless", "==", "!=", "<", ">", "<=", ">=", "+", "-", "*", "/",
            ]
            .contains(&name)
            {
                open.last_mut().expect("balanced parentheses").push(name);
            }
            if [')', ','].contains(&end) {
                closed.extend(open.pop());
            }
            if ['(', ','].contains(&end) {
                open.push(Vec::new());
            }
        }
    }
    closed.extend(open);
    closed
}

/// Whether a set operator stands beside another operator without parentheses. Comparisons bind tighter, so
/// `a unless b > 0` is `a unless (b > 0)`; `a and b or c` is hard to read.
fn needs_parentheses(expr: &str) -> bool {
    let set = |operator: &&str| ["and", "or", "unless"].contains(operator);
    operators(expr)
        .iter()
        .any(|level| level.iter().any(set) && level.len() > 1)
}

#[test]
fn set_operators_stand_alone_in_their_parentheses() {
    for wrong in [
        r#"rate(a{zone="movable"}[15m]) unless on (job) b{era="cma"} > 0"#,
        "sum(a and b or c)",
        "a or vector(0) / b",
        "topk(10, a > 0 and b)",
    ] {
        assert!(needs_parentheses(wrong), "{wrong}");
    }
    for right in [
        r#"(rate(a{zone="movable"}[15m]) unless on (job) b{era="cma"}) > 0"#,
        "count(a == 0) or vector(0)",
        r#"(sum(a{b="> or and"}) or vector(0)) / sum(c) * 2"#,
        "max(a or b, c > 0)",
    ] {
        assert!(!needs_parentheses(right), "{right}");
    }
    let alerts = alerts().into_iter().map(|alert| alert.expr);
    for expr in dashboard_queries()
        .into_iter()
        .map(|(expr, _)| expr)
        .chain(alerts)
    {
        assert!(!needs_parentheses(&expr), "{expr}");
    }
}

/// Grafana asks `/api/v1/label/LABEL/values` for `label_values(METRIC, LABEL)`.
fn check_variables(prometheus: &Prometheus) {
    let hosts = &prometheus.hosts;
    let variables = variables();
    assert!(!variables.is_empty(), "the dashboards have no variables");
    for (name, query) in variables {
        let parts = query
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|parts| parts.split_once(", "));
        let (metric, label) = parts.unwrap_or_else(|| panic!("${name} has no values: {query}"));
        let path = format!("/api/v1/label/{label}/values");
        let answer = prometheus.get(&path, &[("match[]", metric)]);
        let values = answer.as_array().expect("a list").iter();
        let values: BTreeSet<_> = values.map(|value| value.as_str().expect("text")).collect();
        let expected = match label {
            "job" => BTreeSet::from(["pinwatch"]),
            "instance" => hosts.iter().map(|host| &*host.instance).collect(),
            "release" => hosts.iter().map(|host| &*host.release).collect(),
            _ => panic!("${name} is a label that no test knows: {query}"),
        };
        assert_eq!(values, expected, "${name}");
    }
}

/// Runs a query with `$instance` as this host. Returns whether it has an answer, whose series have all labels of the legend.
fn is_answered(prometheus: &Prometheus, instance: &str, expr: &str, legend: &str) -> bool {
    let series = prometheus.query(instance, expr);
    for label in labels_in(legend) {
        let has = |one: &Value| one["metric"][label].is_string();
        assert!(series.iter().all(has), "no {label} in the answer to {expr}");
    }
    !series.is_empty()
}

fn check_rules(prometheus: &Prometheus) {
    let rules = prometheus.get("/api/v1/rules", &[]);
    let rules = rules["groups"][0]["rules"]
        .as_array()
        .expect("rules")
        .clone();
    assert_eq!(rules.len(), alerts().len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

#[test]
fn prometheus_answers_every_query() {
    let hosts = RELEASES.map(|release| Host {
        instance: serve(release).to_string(),
        release: release.to_owned(),
    });
    let instance = hosts[0].instance.clone();
    let prometheus = Prometheus::start(hosts, "250ms");
    check_variables(&prometheus);
    for (expr, legend) in queries() {
        assert!(
            is_answered(&prometheus, &instance, &expr, &legend),
            "no answer to {expr}"
        );
    }
    for alert in &alerts() {
        prometheus.query(&instance, &alert.expr);
    }
    check_rules(&prometheus);
}

/// `ADDRESS=RELEASE` of two hosts with pinwatch, separated by a comma.
const HOSTS: &str = "PINWATCH_HOSTS";

#[test]
#[ignore = "needs two hosts: run `cargo xtask test --dashboards`"]
fn prometheus_answers_every_query_on_real_hosts() {
    let hosts = env::var(HOSTS).expect("cargo xtask names the hosts");
    let hosts: Vec<_> = hosts
        .split(',')
        .map(|host| {
            let (instance, release) = host.split_once('=').expect("ADDRESS=RELEASE");
            Host {
                instance: instance.to_owned(),
                release: release.to_owned(),
            }
        })
        .collect();
    let prometheus = Prometheus::start(hosts.try_into().expect("two hosts"), "2s");
    check_variables(&prometheus);
    let all = queries();
    for host in &prometheus.hosts {
        let instance = &host.instance;
        let unanswered: Vec<_> = all
            .iter()
            .filter(|(expr, legend)| {
                // A filter may leave nothing of what the host did lately.
                let unfiltered = || prometheus.query(instance, &expr.replace(" > 0", ""));
                !is_answered(&prometheus, instance, expr, legend) && unfiltered().is_empty()
            })
            .map(|(expr, _)| expr)
            .collect();
        println!(
            "{}: {} of {} queries answered",
            host.release,
            all.len() - unanswered.len(),
            all.len()
        );
        assert!(unanswered.is_empty(), "no answer to {unanswered:?}");
    }
    check_rules(&prometheus);
}

/// The labels in a text: `{{label}}` in a legend, `{{ $labels.label }}` in an alert.
fn labels_in(text: &str) -> impl Iterator<Item = &str> {
    let templates = text
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split_once("}}"));
    templates.filter_map(|(template, _)| {
        let template = template.trim();
        match template.strip_prefix("$labels.") {
            Some(label) => Some(label),
            None => (!template.starts_with('$')).then_some(template),
        }
    })
}
