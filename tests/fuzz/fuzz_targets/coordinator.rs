//! Fuzzes [`foedus_fuzz::coordinator`].

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| foedus_fuzz::coordinator(bytes));
