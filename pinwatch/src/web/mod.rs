//! HTTP server for any router: addresses, certificates, authentication and limits.
//!
//! `--web.config.file` has the format of Prometheus' exporter-toolkit. [`config`] parses it, and [`reload`]
//! reads it again when it changes.

pub mod auth;
pub mod config;
mod connections;
mod deadlines;
pub mod host;
pub mod limits;
pub mod listen;
pub mod reload;
pub mod serve;
pub mod tls;
