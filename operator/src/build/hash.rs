//! The identity of a revision: a hash of what shapes its pods.
//!
//! What always holds: the order of keys in the author's YAML, a field that is absent or set to its default, and a change of
//! what is read live ([`LIVE_FIELDS`]) make no difference.

use pilotlight_crds::FunctionSpec;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Parts of the spec that are read live and shape no pod.
const LIVE_FIELDS: [&str; 9] =
    ["visibility", "hostnames", "traffic", "sticky", "rollout", "scaling", "concurrency", "timeouts", "coldStart"];

/// Digits of the hash that are kept: 64 bits tell the few revisions of one Function apart.
const DIGITS: usize = 16;

/// Hash of everything in `spec` that shapes pods, in hexadecimal.
pub fn revision_hash(spec: &FunctionSpec) -> String {
    let mut value = serde_json::to_value(spec).expect("a FunctionSpec has string keys and no fallible fields");
    if let Value::Object(fields) = &mut value {
        for field in LIVE_FIELDS {
            fields.remove(field);
        }
    }
    canonical_hash(&value)
}

/// Hash of a JSON value that does not depend on the order of keys.
pub fn canonical_hash(value: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(&mut hasher, value);
    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
    }
    hex.truncate(DIGITS);
    hex
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut keys: Vec<_> = fields.keys().collect();
            keys.sort();
            hasher.update(b"{");
            for key in keys {
                hasher.update(Value::from(key.as_str()).to_string());
                hasher.update(b":");
                feed(hasher, &fields[key]);
                hasher.update(b",");
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                feed(hasher, item);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        leaf => hasher.update(leaf.to_string()),
    }
}
