//! The dashboards and alert rules: their files are what the tables in the code say, and
//! Prometheus answers each of their queries. To write them anew: `cargo xtask docs`.

mod current;
mod grafana;
mod promtool;
mod queries;
mod rules;
#[path = "../screens/served.rs"]
mod served;
#[path = "../screens/state.rs"]
mod some;
mod state;
