//! Dashboards and alert rules: every query names existing metrics, and Prometheus answers it. The files are
//! generated from tables in xtask/src/generate.

mod files;
mod prometheus;
mod promtool;
mod queries;
#[path = "../screens/served.rs"]
mod served;
#[path = "../screens/state.rs"]
mod some;
mod state;
#[path = "../support/wait.rs"]
mod wait;
