//! Reads the generated files in dashboards/ as Grafana and Prometheus do.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every generated dashboard.
fn dashboards() -> Vec<Value> {
    let folder = fs::read_dir(root().join("dashboards")).expect("the folder dashboards");
    let paths = folder.map(|entry| entry.expect("a file").path());
    let dashboards = paths
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            let text = fs::read_to_string(path).expect("a dashboard");
            serde_json::from_str(&text).expect("JSON")
        });
    let dashboards: Vec<_> = dashboards.collect();
    assert!(!dashboards.is_empty(), "dashboards/ has no dashboard");
    dashboards
}

/// Expression and legend of every query in every dashboard.
pub fn dashboard_queries() -> Vec<(String, String)> {
    let panels = dashboards().into_iter().flat_map(|dashboard| {
        let panels = dashboard["panels"].as_array().expect("panels");
        panels.clone()
    });
    let queries: Vec<_> = panels.flat_map(targets).collect();
    assert!(!queries.is_empty(), "dashboards/ has no queries");
    queries
}

/// Name and query of every variable of every dashboard that Prometheus answers.
pub fn variables() -> Vec<(String, String)> {
    let of_dashboard = |dashboard: Value| {
        let list = dashboard["templating"]["list"].as_array();
        let list = list.expect("variables").clone();
        let queries = list.into_iter().filter(|one| one["type"] == "query");
        queries.map(|one| {
            let text = |value: &Value| value.as_str().expect("a string").to_owned();
            (text(&one["name"]), text(&one["query"]["query"]))
        })
    };
    dashboards().into_iter().flat_map(of_dashboard).collect()
}

/// Expressions and legends of a panel. A row has none.
fn targets(panel: Value) -> Vec<(String, String)> {
    let targets = panel["targets"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    targets
        .map(|target| (text(&target["expr"]), text(&target["legendFormat"])))
        .collect()
}

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Alert>,
}

#[derive(Deserialize)]
pub struct Alert {
    #[serde(rename = "alert")]
    pub name: String,
    pub expr: String,
    pub annotations: Annotations,
}

#[derive(Deserialize)]
pub struct Annotations {
    pub summary: String,
}

impl Alert {
    /// The expression without its comparison. It has a value even if the alert does not fire.
    pub fn value(&self) -> &str {
        let mut words = self.expr.rsplitn(3, ' ');
        let (threshold, operator) = (words.next(), words.next());
        let is_number = threshold.is_some_and(|text| text.parse::<f64>().is_ok());
        assert!(
            is_number && operator.is_some_and(|text| ["==", "<", ">"].contains(&text)),
            "{} does not end with a comparison: {}",
            self.name,
            self.expr
        );
        words.next().expect("a value before the comparison")
    }
}

/// All rules of `dashboards/pinwatch-alerts.yml`.
pub fn alerts() -> Vec<Alert> {
    let path = root().join("dashboards/pinwatch-alerts.yml");
    let text = fs::read_to_string(path).expect("the alerts");
    let rules: Rules = serde_saphyr::from_str(&text).expect("Prometheus' rules");
    rules
        .groups
        .into_iter()
        .flat_map(|group| group.rules)
        .collect()
}
