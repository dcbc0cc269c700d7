#![no_main]
#![allow(dead_code, missing_docs)]

#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    targets::handed::member(data);
});
