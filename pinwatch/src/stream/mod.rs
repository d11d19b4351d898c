//! Delivers events to followers.
//!
//! [`ring_reader`] reads the ring buffer while at least one follower is connected. [`hub`] passes the
//! events to all followers; a slow one delays nobody. [`follow`] turns events and states into the
//! updates of a view. [`serve`] and [`connect`] carry these updates to another process.

pub mod connect;
pub mod feed;
pub mod follow;
mod holds_of_pins;
pub mod hub;
pub mod replay;
pub mod ring_reader;
pub mod serve;
pub mod wire;
