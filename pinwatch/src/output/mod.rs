//! Outputs: HTTP, metrics, `tail`, `top`, and the texts of `check`, `report` and `compare`. They render
//! plain data and attach nothing.

pub mod check;
pub mod compare;
pub mod holds;
mod html_page;
pub mod http;
pub mod metrics;
pub mod report;
pub mod tail;
pub mod top;
