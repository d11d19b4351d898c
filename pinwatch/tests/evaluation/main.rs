//! Runs `pinwatch report`, `replay` and `compare` on synthetic recordings.

mod bounds;
mod claims;
mod outputs;
mod refused;
mod simulation;
mod support;
mod unreturned;
mod verdict;
