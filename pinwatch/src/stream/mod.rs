//! Pins for whoever watches them live. [`ring_reader`] reads the ring buffer, and
//! only while somebody follows; [`hub`] hands what it read to any number of
//! followers, none of which can hold it up. [`follow`] makes of that what a view
//! is fed with, in this process or, through [`serve`] and [`connect`], in another.

pub mod connect;
pub mod feed;
pub mod follow;
pub mod hub;
pub mod replay;
pub mod ring_reader;
pub mod serve;
mod wire;
