//! First byte: what it is taken for; the rest: a signature and a payload on two lines, a parcel, or a head.
#![no_main]

use holdfast_fuzz::bus;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [kind, bytes @ ..] = input else { return };
    match kind % 3 {
        0 => {
            let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
            let (line, payload) = bytes.split_at(end);
            if let Ok(line) = std::str::from_utf8(line) {
                bus::signatures(line, payload);
            }
        }
        1 => bus::parcels(bytes),
        _ => bus::heads(bytes),
    }
});
