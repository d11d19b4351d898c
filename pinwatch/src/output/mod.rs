//! What is shown to whom. Each output is a function of
//! [`State`](crate::aggregate::State).

pub mod compare;
pub mod http;
pub mod metrics;
pub mod openmetrics;
mod page;
pub mod report;
mod samples;
mod series;
pub mod tail;
pub mod top;
