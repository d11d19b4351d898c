//! What is shown to whom. Each output is a function of
//! [`State`](crate::aggregate::State).

pub mod http;
pub mod in_flight;
pub mod metrics;
mod samples;
