//! The web server as a client sees it: certificates, passwords, reloads of both, and limits.
//! Needs neither root nor a kernel to watch.

mod access;
mod authority;
mod client;
mod host;
mod hostile;
mod limits;
mod names;
mod server;
mod stacks;
mod tls;
