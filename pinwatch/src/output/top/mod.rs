//! `pinwatch top`: what is shown, apart from how ([`draw`]). Origins, failures and
//! the heat map come from the kernel's counts and are exact; processes from the
//! pins that came, less those that are counted as lost.

mod draw;
mod groups;
mod keys;
mod screen;

pub use draw::draw;
pub use keys::After;
pub use screen::Top;
