//! WebSocket over HTTP/2 (RFC 8441): the client opens a tunnel by an extended CONNECT; the pod, which speaks HTTP/1.1, gets an ordinary
//! upgrade with a key of the activator's own, whose echo proves that the pod understood. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use sha1::{Digest as _, Sha1};

/// Of RFC 6455, 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Adds a key to a request; gives what the pod has to answer.
pub fn ask(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(&key).ok()?);
    accept(key.as_bytes())
}

fn accept(key: &[u8]) -> Option<HeaderValue> {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::from_str(&STANDARD.encode(digest)).ok()
}

/// Takes the pod's answer out of its headers, where it means nothing to an HTTP/2 client. Whether it is the right one.
pub fn confirm(headers: &mut HeaderMap, wanted: &HeaderValue) -> bool {
    headers.remove(SEC_WEBSOCKET_ACCEPT).as_ref() == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_that_of_the_standards_example() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn only_the_answer_to_the_own_key_will_do() {
        let mut request = HeaderMap::new();
        let wanted = ask(&mut request).unwrap();
        let mut response = HeaderMap::new();
        assert!(!confirm(&mut response, &wanted));
        response.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!confirm(&mut response, &wanted));
        response.insert(SEC_WEBSOCKET_ACCEPT, wanted.clone());
        assert!(confirm(&mut response, &wanted));
        assert!(response.is_empty());
    }
}
