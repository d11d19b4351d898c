//! Data types that the outputs share, and pure functions of such data: no I/O, no clock, no aya.

pub mod agent_status;
pub mod blockers;
pub mod bounded;
pub mod errno;
pub mod failures;
pub mod filter;
pub mod format;
pub mod hold;
pub mod holders;
pub mod in_flight;
pub mod labels;
pub mod pin_json;
pub mod pinned;
pub mod places;
pub mod portable_pin;
pub mod refusal;
pub mod series;
pub mod session;
pub mod stall;
pub mod state;
pub mod thread;
pub mod trace;
pub mod view;
