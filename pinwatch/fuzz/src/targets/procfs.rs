//! `/proc/TID/stat`: a thread chooses its name, also with brackets, spaces and newlines.
#![forbid(unsafe_code)]

use pinwatch::kernel::procfs::stat_field;

/// Feeds one input.
pub fn run(data: &[u8]) {
    let stat = String::from_utf8_lossy(data);
    for number in 3..60 {
        let _ = stat_field::<u64>(&stat, number);
    }
    // The name of a thread changes no field after it.
    let named = format!("17 ({stat}) R 1 2 3\n");
    if !named[4..named.len() - 9].ends_with(')') {
        assert_eq!(stat_field(&named, 4), Some(1));
    }
}
