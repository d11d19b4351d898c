//! What people see, in the programs that they see it with: Chromium, tmux and
//! Prometheus. No kernel is watched and no root is needed.

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
