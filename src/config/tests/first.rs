//! What goes wrong in somebody's first configuration, and would show late or not at all if nobody said it.

use super::faults::faults;

fn check(file: &str, expected: &str) {
    assert_eq!(faults(file), [format!("holdfast.yaml:{expected}")], "{file}");
}

#[test]
fn a_misspelled_level_would_silence_everything() {
    const WANTED: &str =
        "wanted: text, `error`, `warn`, `info`, `debug`, `trace`, `off`, or `target=level` pairs with commas";
    let at = "1:25: telemetry.log_filter:";
    check(
        "telemetry: {log_filter: inof}",
        &format!("{at} `inof` is no level; did you mean `info`?; {WANTED}"),
    );
    check("telemetry: {log_filter: holdfast}", &format!("{at} `holdfast` is no level; {WANTED}"));
    check(
        "telemetry: {log_filter: 'warn, hodlfast'}",
        &format!("{at} `warn, hodlfast` is no filter: `hodlfast` is no level; {WANTED}"),
    );
    for good in ["info", "OFF", "warn,holdfast::hub=debug", "off,holdfast::hub", "info,[span]=trace"] {
        assert_eq!(faults(&format!("telemetry: {{log_filter: '{good}'}}")), [""; 0], "{good}");
    }
}

#[test]
fn listeners_need_two_addresses() {
    let expected =
        "admin.listen: listen (127.0.0.1:5000) and admin.listen (127.0.0.1:5000) need two addresses";
    check("{listen: 'localhost:5000', admin: {listen: '127.0.0.1:5000'}}", &format!("1:44: {expected}"));
    check(
        "{listen: '0.0.0.0:4445', auth: {insecure: on}}",
        "1:10: listen: listen (0.0.0.0:4445) and admin.listen (127.0.0.1:4445) need two addresses",
    );
    for good in [
        "{listen: '127.0.0.1:0', admin: {listen: '127.0.0.1:0'}}",
        "listen: '127.0.0.2:4445'",
        "{listen: '0.0.0.0:4445', auth: {insecure: on}, admin: {listen: '[::1]:4445'}}",
    ] {
        assert_eq!(faults(good), [""; 0], "{good}");
    }
}

#[test]
fn the_parts_of_a_drain_fit_into_it() {
    check(
        "drain: {notice: 20s, timeout: 5s}",
        "1:17: drain.notice: drain.notice (20s) leaves nothing of drain.timeout (5s)",
    );
    check(
        "{state: 'redis://redis', bus: 'nats://nats', drain: {timeout: 5s}}",
        "1:63: drain.timeout: drain.notice (5s) leaves nothing of drain.timeout (5s)",
    );
    for good in ["drain: {timeout: 1s}", "drain: {notice: 20s, handover: 20s, timeout: 25s}"] {
        assert_eq!(faults(good), [""; 0], "{good}");
    }
}

#[test]
fn what_is_nearly_right_is_shown_right() {
    check(
        "http: {trusted_proxies: 10.0.0.0/8}",
        "1:25: http.trusted_proxies: found `10.0.0.0/8`; write `[10.0.0.0/8]`; wanted: list, such as \
         `10.0.0.0/8`, `192.0.2.7` or `fd00::/8`",
    );
    for address in ["127.0.0.1:6379", "localhost:6379", "redis:6379"] {
        check(
            &format!("state: {address}"),
            &format!(
                "1:8: state: `{address}` is no URL; wanted: URL, `memory`, `none`, or a Redis's URL, such as \
                 `redis://127.0.0.1:6379`"
            ),
        );
    }
    check(
        "requests: {timeout: 2 minutes}",
        "1:21: requests.timeout: `2 minutes` is not a duration such as `2m`; wanted: duration, 100ms to 1d",
    );
}
