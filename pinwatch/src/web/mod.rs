//! Serves a router over HTTP: at which addresses, with which certificate, to whom,
//! and within which limits. Knows nothing of what is served.
//!
//! `--web.config.file` has the format of Prometheus' exporter-toolkit: [`config`]
//! reads it, [`reload`] keeps up with it while the daemon runs.

pub mod auth;
pub mod config;
pub mod reload;
pub mod serve;
pub mod tls;
mod write_timeout;
