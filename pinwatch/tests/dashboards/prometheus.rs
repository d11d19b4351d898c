//! A Prometheus that scrapes two hosts.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command};

use serde_json::Value;
use tempfile::TempDir;

use super::files::root;
use super::wait::{PATIENCE, wait_until};

/// A host with pinwatch.
#[derive(Debug)]
pub struct Host {
    /// Address that serves its metrics.
    pub instance: String,
    /// Release of its kernel.
    pub release: String,
}

/// A Prometheus that scrapes two hosts and evaluates the rules. Killed when dropped.
pub struct Prometheus {
    child: Child,
    url: String,
    pub hosts: [Host; 2],
    _dir: TempDir,
}

impl Prometheus {
    /// Starts it and waits until it has scraped both hosts several times and evaluated all rules.
    pub fn start(hosts: [Host; 2], interval: &str) -> Self {
        let dir = TempDir::new().expect("a folder");
        let config = dir.path().join("prometheus.yml");
        let rules = root().join("dashboards/pinwatch-alerts.yml").canonicalize();
        let text = format!(
            "global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: {interval}}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n- {{job_name: pinwatch, static_configs: [{{targets: ['{}', '{}']}}]}}\n",
            rules.expect("there").display(),
            hosts[0].instance,
            hosts[1].instance
        );
        fs::write(&config, text).expect("written");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
        let address = free.expect("a port");
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                dir.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .spawn()
            .expect("prometheus is in PATH: run `cargo xtask test`");
        let prometheus = Self {
            child,
            url: format!("http://{address}"),
            hosts,
            _dir: dir,
        };
        wait_until("Prometheus to scrape both hosts", PATIENCE, || {
            prometheus.has_scraped_and_evaluated()
        });
        prometheus
    }

    fn has_scraped_and_evaluated(&self) -> bool {
        const SCRAPES: f64 = 4.0;
        let Some(scrapes) = self.try_get(
            "/api/v1/query",
            &[("query", "count_over_time(pinwatch_build_info[1m])")],
        ) else {
            return false;
        };
        let scrapes = scrapes["result"].as_array().expect("a vector");
        let many =
            |one: &&Value| one["value"][1].as_str().and_then(|n| n.parse().ok()) >= Some(SCRAPES);
        let rules = self.try_get("/api/v1/rules", &[]);
        let evaluated =
            rules.is_some_and(|rules| !rules.to_string().contains("\"health\":\"unknown\""));
        evaluated && scrapes.iter().filter(many).count() == self.hosts.len()
    }

    /// The series that an expression returns, with the variables of Grafana replaced.
    pub fn query(&self, instance: &str, expr: &str) -> Vec<Value> {
        let variables = [
            ("$__rate_interval", "10s"),
            ("$instance", instance),
            ("$job", "pinwatch"),
            ("$base", &self.hosts[0].release),
            ("$new", &self.hosts[1].release),
        ];
        let expr = variables
            .iter()
            .fold(expr.to_owned(), |expr, (name, value)| {
                expr.replace(name, value)
            });
        assert!(!expr.contains('$'), "an unknown variable in {expr}");
        let answer = self.get("/api/v1/query", &[("query", &expr)]);
        answer["result"].as_array().expect("a vector").clone()
    }

    pub fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.try_get(path, query);
        answer.unwrap_or_else(|| panic!("no answer to {path} {query:?}"))
    }

    fn try_get(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let request = ureq::get(format!("{}{path}", self.url));
        let mut response = request.query_pairs(query.iter().copied()).call().ok()?;
        let answer = response.body_mut().read_to_string().expect("text");
        let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
        Some(answer["data"].take())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
