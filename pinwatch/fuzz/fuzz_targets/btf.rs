//! BTF, with kinds that this pinwatch does not know.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pinwatch::kernel::btf::{BtfQuery, find};
use pinwatch::kernel::facts::Wanted;
use pinwatch::probe::table::wanted;

static WANTED: LazyLock<Wanted> = LazyLock::new(wanted);

fuzz_target!(|data: &[u8]| {
    pinwatch_fuzz::count(data);
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
});
