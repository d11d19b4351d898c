mod isolate;
mod memfd;
mod migrate;
mod pass;
mod pin;
mod thread;
