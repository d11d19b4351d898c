//! Sinks that keep a guest's output until it has ended.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};

use crate::guest::qemu::Sinks;

/// Runs a guest. Returns its stdout and stderr if its command succeeded.
pub fn collect(run: impl FnOnce(Sinks) -> Result<u8>) -> Result<[String; 2]> {
    let (out, err) = (Collected::default(), Collected::default());
    let status = run(Sinks {
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
    })?;
    let said = err.text()?;
    if status != 0 {
        bail!(
            "the guest's command failed with status {status}: {}",
            said.trim()
        );
    }
    Ok([out.text()?, said])
}

/// Runs a guest. Returns its stdout if its command succeeded; passes on its stderr at once.
pub fn collect_out(run: impl FnOnce(Sinks) -> Result<u8>) -> Result<String> {
    let out = Collected::default();
    let status = run(Sinks {
        out: Box::new(out.clone()),
        err: Box::new(io::stderr()),
    })?;
    if status != 0 {
        bail!("the guest's command failed with status {status}");
    }
    out.text()
}

#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    fn text(&self) -> Result<String> {
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
