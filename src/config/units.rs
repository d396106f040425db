//! Durations and sizes as people write them (`90s`, `1h30m`, `4MiB`), both ways, and plain counts.

use std::borrow::Cow;
use std::time::Duration;

/// Why a text is refused; completes the sentence "`text` …".
pub(super) type Reason = Cow<'static, str>;

const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
const SIZES: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `250ms`, `60s`, `10m`, `1h`, `7d`, and sums of them: `1h30m`. A bare number other than 0 has no unit.
pub(super) fn duration(text: &str) -> Result<Duration, Reason> {
    const NOT_ONE: Reason = Cow::Borrowed("is not a duration such as `2m`");
    const TOO_LONG: Reason = Cow::Borrowed("is too long");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut milliseconds = 0u64;
    while !rest.is_empty() {
        let (digits, tail) = split(rest, |byte| byte.is_ascii_digit());
        let (unit, tail) = split(tail, |byte| byte.is_ascii_alphabetic());
        if digits.is_empty() {
            return Err(NOT_ONE);
        }
        if unit.is_empty() {
            return Err(if tail.is_empty() { Cow::Borrowed("has no unit") } else { NOT_ONE });
        }
        let Some((_, factor)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
            return Err(NOT_ONE);
        };
        let part =
            digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or(TOO_LONG)?;
        milliseconds = milliseconds.checked_add(part).ok_or(TOO_LONG)?;
        rest = tail;
    }
    if text.is_empty() { Err(NOT_ONE) } else { Ok(Duration::from_millis(milliseconds)) }
}

pub(super) fn show_duration(duration: &Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    let fitting = DURATIONS.iter().find(|(_, factor)| milliseconds.is_multiple_of(*factor));
    let (unit, factor) = fitting.copied().unwrap_or(("ms", 1));
    format!("{}{unit}", milliseconds / factor)
}

/// `4MiB`, `64 KiB`, `1GiB`, or a bare number of bytes.
pub(super) fn bytes(text: &str) -> Result<usize, Reason> {
    let (digits, unit) = split(text, |byte| byte.is_ascii_digit() || byte == b'_');
    let unit = unit.trim_start();
    let known = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let factor = match known {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => return Err("is not a size; units are B, KiB, MiB and GiB".into()),
    };
    let number = whole(digits).map_err(|reason| match reason {
        Malformed::NotANumber => Reason::Borrowed("is not a size"),
        Malformed::TooLarge => "is too large".into(),
    })?;
    number.checked_mul(factor).ok_or("is too large".into())
}

pub(super) fn show_bytes(bytes: &usize) -> String {
    match SIZES.iter().find(|(_, factor)| *bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// A whole number; `100_000` may be written for `100000`.
pub(super) fn count(text: &str) -> Result<usize, Reason> {
    whole(text).map_err(|reason| match reason {
        Malformed::NotANumber => "is not a whole number".into(),
        Malformed::TooLarge => "is too large".into(),
    })
}

enum Malformed {
    NotANumber,
    TooLarge,
}

fn whole(text: &str) -> Result<usize, Malformed> {
    let starts_with_digit = text.starts_with(|character: char| character.is_ascii_digit());
    if !starts_with_digit || !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_') {
        return Err(Malformed::NotANumber);
    }
    text.replace('_', "").parse().map_err(|_| Malformed::TooLarge)
}

fn split(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !belongs(byte)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        fn check(text: &str, expected: Result<u64, &str>) {
            let found = duration(text).map(|duration| duration.as_millis() as u64);
            assert_eq!(found, expected.map_err(|reason| Reason::Owned(reason.to_owned())), "{text}");
        }
        check("250ms", Ok(250));
        check("60s", Ok(60_000));
        check("1h30m", Ok(5_400_000));
        check("7d", Ok(604_800_000));
        check("0", Ok(0));
        check("0s", Ok(0));
        check("60", Err("has no unit"));
        check("1h30", Err("has no unit"));
        check("", Err("is not a duration such as `2m`"));
        check("soon", Err("is not a duration such as `2m`"));
        check("1.5s", Err("is not a duration such as `2m`"));
        check("-1s", Err("is not a duration such as `2m`"));
        check("1 s", Err("is not a duration such as `2m`"));
        check("5y", Err("is not a duration such as `2m`"));
        check("5é", Err("is not a duration such as `2m`"));
        check("99999999999999999999s", Err("is too long"));
        check("18446744073709551615d", Err("is too long"));
    }

    #[test]
    fn sizes() {
        fn check(text: &str, expected: Result<usize, &str>) {
            assert_eq!(bytes(text), expected.map_err(|reason| Reason::Owned(reason.to_owned())), "{text}");
        }
        check("4MiB", Ok(4 << 20));
        check("64 kib", Ok(64 << 10));
        check("1000", Ok(1000));
        check("1_000B", Ok(1000));
        check("4MB", Err("is not a size; units are B, KiB, MiB and GiB"));
        check("MiB", Err("is not a size"));
        check("_1", Err("is not a size"));
        check("", Err("is not a size"));
        check("99999999999GiB", Err("is too large"));
    }

    #[test]
    fn counts() {
        fn check(text: &str, expected: Result<usize, &str>) {
            assert_eq!(count(text), expected.map_err(|reason| Reason::Owned(reason.to_owned())), "{text}");
        }
        check("100_000", Ok(100_000));
        check("0", Ok(0));
        check("-1", Err("is not a whole number"));
        check("1e3", Err("is not a whole number"));
        check("ten", Err("is not a whole number"));
        check("99999999999999999999", Err("is too large"));
    }

    #[test]
    fn shown_as_written() {
        for text in ["250ms", "90s", "1m", "1h", "7d", "0s"] {
            assert_eq!(show_duration(&duration(text).unwrap()), text);
        }
        for text in ["1B", "1025B", "64KiB", "4MiB", "1GiB", "0B"] {
            assert_eq!(show_bytes(&bytes(text).unwrap()), text);
        }
    }
}
