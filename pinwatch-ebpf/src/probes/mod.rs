mod migrate;
mod pass;
mod pin;
mod thread;
