//! The dashboards and alert rules: every query names metrics that exist, and Prometheus answers it.
//! xtask/src/generate has the tables that the files are generated from.

mod files;
mod promtool;
mod queries;
#[path = "../screens/served.rs"]
mod served;
#[path = "../screens/state.rs"]
mod some;
mod state;
#[path = "../support/wait.rs"]
mod wait;
