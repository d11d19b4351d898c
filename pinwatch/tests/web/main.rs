//! The web side as clients meet it: certificates, passwords, changes to both, and
//! limits. No kernel is watched and no root is needed.

mod access;
mod authority;
mod client;
mod limits;
mod server;
mod tls;
