//! A sink that keeps what it gets, for the output of a guest that is read afterwards.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};

#[derive(Clone, Default)]
pub struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    pub fn text(&self) -> Result<String> {
        let bytes = self.0.lock().expect(NO_PANIC).clone();
        String::from_utf8(bytes).context("the guest's output is not UTF-8")
    }
}

impl Write for Collected {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().expect(NO_PANIC).extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const NO_PANIC: &str = "nobody panics while writing";
