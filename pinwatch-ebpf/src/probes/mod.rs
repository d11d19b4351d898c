mod fast;
mod isolate;
mod memfd;
mod migrate;
mod pass;
mod pin;
mod stack;
mod thread;
