//! Output of `pinwatch top`: the data of the screen ([`Top`]) and the drawing ([`draw`]). Origins, failures
//! and the heat map come from the kernel's counts. Processes come from events, of which some can be lost.

mod draw;
mod groups;
mod keys;
mod screen;

pub use draw::draw;
pub use keys::After;
pub use screen::Top;
