//! What is shown to whom. Each output is a function of
//! [`State`](crate::model::state::State).

pub mod check;
pub mod compare;
pub mod http;
pub mod metrics;
pub mod report;
pub mod tail;
pub mod top;
