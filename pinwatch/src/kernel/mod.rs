//! What the running kernel says of itself: see [`facts`].

pub mod btf;
pub mod defects;
pub mod facts;
pub mod machine;
pub mod switches;
pub mod symbols;
pub mod threads;
pub mod zones;
