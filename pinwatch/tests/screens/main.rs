//! The outputs in the programs that people use: Chromium, tmux and Prometheus. Needs neither root nor a
//! kernel to watch.

#[path = "../web/authority.rs"]
mod authority;
mod browser;
mod comparison;
mod page;
mod prometheus;
mod served;
mod state;
mod terminal;
#[path = "../support/wait.rs"]
mod wait;
