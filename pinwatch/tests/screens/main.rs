//! What people see, in the programs that they see it with: Chromium and tmux. No
//! kernel is watched and no root is needed.

mod browser;
mod comparison;
mod page;
mod state;
mod terminal;
