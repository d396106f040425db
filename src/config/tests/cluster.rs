//! The keys that nodes sign with: from everywhere, and what is wrong with them.

use super::{load_all, loaded};

fn secret(byte: &str) -> String {
    byte.repeat(32)
}

#[test]
fn keys_from_everywhere() {
    let file = std::env::temp_dir().join(format!("holdfast-key-{}", uuid::Uuid::new_v4()));
    std::fs::write(&file, format!("{}\n", secret("c3"))).unwrap();
    let text =
        format!("cluster: {{signing_key: own-key, keys: {{own-key: {{secret: '{}'}}}}}}", secret("a1"));
    let variables = [
        ("HOLDFAST_CLUSTER_KEYS_NEXT_SECRET", secret("b2")),
        ("HOLDFAST_CLUSTER_KEYS_FILED_SECRET_FILE", file.display().to_string()),
    ];
    let given = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let cluster = load_all(text.as_bytes(), &given, &[]).unwrap().cluster;
    std::fs::remove_file(&file).unwrap();
    let keys: Vec<_> = cluster.keys.iter().map(|(name, key)| (name.as_str(), key.reveal()[31])).collect();
    assert_eq!(keys, [("filed", 0xc3), ("next", 0xb2), ("own-key", 0xa1)]);
    assert_eq!(cluster.signing_key.as_deref(), Some("own-key"));
    assert!(!format!("{cluster:?}").contains("161"));
    // A variable finds the name that the file has.
    let named = [("HOLDFAST_CLUSTER_KEYS_OWN_KEY_SECRET", secret("d4"))];
    let named = named.each_ref().map(|(name, value)| (*name, value.as_str()));
    let cluster = load_all(b"cluster: {keys: {own-key: {secret: ''}}}", &named, &[]).unwrap().cluster;
    assert_eq!(cluster.keys["own-key"].reveal(), [0xd4; 32]);
    assert_eq!(cluster.signing_key.as_deref(), Some("own-key"), "the only one");
    assert_eq!(loaded("").cluster.signing_key, None);
}

#[test]
fn all_that_is_wrong_with_them_is_said_at_once() {
    let (same, file) = (secret("a1"), "/nowhere/key");
    let text = format!(
        "\
cluster:
  signing_key: nxt
  keys:
    one: {{secret: '{same}'}}
    two: {{secret: '{same}'}}
    next: {{secret: s3cret}}
    short: {{secret: QUJD}}
    none: {{}}
    both: {{secret: '{}', secret_file: {file}}}
",
        secret("b2")
    );
    let expected = "\
7 faults in the configuration:
  holdfast.yaml:2:16: cluster.signing_key: there is no such key in cluster.keys; did you mean `next`?
  holdfast.yaml:5:19: cluster.keys.two.secret: `one` and `two` have the same secret
  holdfast.yaml:6:20: cluster.keys.next.secret: the secret is neither base64 nor hexadecimal; wanted: secret, at least 32 bytes, in base64 or hexadecimal
  holdfast.yaml:7:21: cluster.keys.short.secret: the secret has 3 bytes; wanted: secret, at least 32 bytes, in base64 or hexadecimal
  holdfast.yaml:8:5: cluster.keys.none.secret: must be given, or secret_file
  holdfast.yaml:9:101: cluster.keys.both.secret_file: `/nowhere/key` can't be read: No such file or directory (os error 2); wanted: text, the path of a file with at least 32 bytes, in base64 or hexadecimal
  holdfast.yaml:9:101: cluster.keys.both.secret_file: there are both secret and secret_file: give one of them";
    let found = load_all(text.as_bytes(), &[], &[]).unwrap_err().to_string();
    assert_eq!(found, expected);
}

#[test]
fn what_does_not_fit_together() {
    fn check(file: &str, expected: &str) {
        let found = load_all(file.as_bytes(), &[], &[]).unwrap_err();
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, [format!("holdfast.yaml:{expected}")]);
    }
    let (one, two) = (secret("a1"), secret("b2"));
    check(
        &format!("cluster: {{keys: {{a: {{secret: '{one}'}}, b: {{secret: '{two}'}}}}}}"),
        "1:1: cluster.signing_key: there are several cluster.keys: say which one signs",
    );
    check(
        "cluster: {accept_unsigned: on}",
        "1:28: cluster.accept_unsigned: without cluster.keys nothing is refused: set them, or remove it",
    );
    check("cluster: {signing_key: a}", "1:24: cluster.signing_key: there is no such key in cluster.keys");
}
