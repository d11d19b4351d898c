//! Evaluation of recordings: judges the claims about the path ([`claims`]), models other limits
//! ([`what_if`]), and compares two kernels ([`compare`]).
//!
//! [`capture`] reads each recording once, into sums and samples of bounded size.

pub mod capture;
pub mod claims;
pub mod comparability;
pub mod compare;
pub mod decimated;
pub mod evidence;
pub mod figures;
pub mod group;
pub mod holds;
pub mod line;
pub mod lost;
pub mod pair;
pub mod sample;
pub mod sample_set;
pub mod stats;
pub mod survival;
pub mod unreturned;
pub mod what_if;
