//! Runs `pinwatch report`, `replay` and `compare` on synthetic recordings.

mod bounds;
mod claims;
mod refused;
mod support;
mod unreturned;
mod verdict;
