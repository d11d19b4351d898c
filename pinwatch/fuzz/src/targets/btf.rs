//! BTF, with kinds that this pinwatch does not know.
#![forbid(unsafe_code)]

use std::sync::LazyLock;

use pinwatch::kernel::btf::{BtfQuery, find};
use pinwatch::kernel::facts::Wanted;
use pinwatch::probe::table::wanted;

static WANTED: LazyLock<Wanted> = LazyLock::new(wanted);

/// Feeds one input.
pub fn run(data: &[u8]) {
    let functions = [&WANTED.functions[..], &["f"]].concat();
    let constants = [&WANTED.constants[..], &["E"]].concat();
    let members = [&WANTED.members[..], &[("s", "m")]].concat();
    let query = BtfQuery {
        functions: &functions,
        tracepoints: &WANTED.tracepoints,
        constants: &constants,
        members: &members,
    };
    let _ = find(data, &query);
}
