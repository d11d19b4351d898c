#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pinwatch_fuzz::feed(
    pinwatch_fuzz::targets::web_config::run,
    data
));
