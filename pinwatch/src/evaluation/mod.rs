//! The evaluation: what a recording says of the claims that were made about the path
//! ([`claims`]), what limits would have done ([`what_if`]), and whether one recording is
//! worse than another ([`compare`]).
//!
//! A recording is read once ([`capture`]), into sums and samples of bounded size.

pub mod capture;
pub mod claims;
pub mod comparability;
pub mod compare;
pub mod decimated;
pub mod evidence;
pub mod figures;
pub mod group;
pub mod sample_set;
pub mod stats;
pub mod what_if;
