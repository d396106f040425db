//! The start of a proxy's connection: what is read is in it, and a part of a header is none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy_header::{Error, ParseConfig, ProxyHeader};

fuzz_target!(|input: &[u8]| {
    let config = || ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let Ok((header, used)) = ProxyHeader::parse(input, config()) else { return };
    assert!(used <= input.len());
    let (again, as_many) = ProxyHeader::parse(&input[..used], config()).expect("the same header");
    assert_eq!((again, as_many), (header, used));
    for part in 0..used {
        let of_part = ProxyHeader::parse(&input[..part], config());
        // A line longer than the protocol allows (107 bytes) is refused as soon as that shows.
        assert!(matches!(of_part, Err(Error::BufferTooShort)) || part >= 107 && of_part.is_err(), "{part}");
    }
});
