//! A refusal as a response, in the shape that the client understands: plain words, problem details (RFC 9457), or a gRPC answer that
//! consists of trailers only.

use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response};
use pilotlight_crds::names::HEADER_REASON;

use super::Refusal;
use super::accept::{Form, negotiate};
use crate::index::FunctionKey;
use crate::proxy::body::Body;

const REASON: HeaderName = HeaderName::from_static(HEADER_REASON);
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// How a gRPC server tells clients that retry when to do so (gRFC A6).
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");

/// What of a request decides about the shape of a refusal; the request itself is gone by the time that one is needed.
#[derive(Debug, Default)]
pub struct Asked {
    /// gRPC's, whose errors travel in `grpc-status`.
    grpc: Option<HeaderValue>,
    accept: Option<HeaderMap>,
}

impl Asked {
    /// From a request's headers. Nothing is allocated for the `Accept: */*` of most clients.
    pub fn of(headers: &HeaderMap) -> Self {
        let grpc = headers.get(CONTENT_TYPE).filter(|value| is_grpc(value)).cloned();
        let plain = headers.get(ACCEPT).is_none_or(|value| value.as_bytes() == b"*/*");
        if plain && headers.get_all(ACCEPT).iter().nth(1).is_none() {
            return Self { grpc, accept: None };
        }
        let mut accept = HeaderMap::new();
        for value in headers.get_all(ACCEPT) {
            accept.append(ACCEPT, value.clone());
        }
        Self { grpc, accept: Some(accept) }
    }

    fn form(&self) -> Form {
        self.accept.as_ref().map_or(Form::Text, negotiate)
    }
}

/// `application/grpc`, `application/grpc+proto` and so on. `application/grpc-web` is another protocol, whose clients read plain HTTP errors.
pub(crate) fn is_grpc(content_type: &HeaderValue) -> bool {
    let rest = content_type.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

impl Refusal {
    /// The answer. `function` is named in problem details; it is not known where no Function answers to the host name.
    pub fn response(&self, asked: &Asked, function: Option<&FunctionKey>) -> Response<Body> {
        let row = self.row();
        let mut response = match &asked.grpc {
            Some(content_type) => self.grpc(content_type.clone()),
            None => self.http(asked.form(), function),
        };
        let headers = response.headers_mut();
        if let Ok(reason) = HeaderValue::from_str(self.reason()) {
            headers.insert(REASON, reason);
        }
        if let Some(seconds) = row.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            if asked.grpc.is_some() {
                headers.insert(GRPC_PUSHBACK, HeaderValue::from(seconds * 1000));
            }
        }
        if matches!(self, Self::MethodNotSupported) {
            headers.insert(ALLOW, ALLOWED);
        }
        response
    }

    fn grpc(&self, content_type: HeaderValue) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(GRPC_STATUS, HeaderValue::from(self.row().grpc as u16));
        let message = percent_encode(&format!("{}: {self}", self.reason()));
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert(GRPC_MESSAGE, message);
        }
        response
    }

    fn http(&self, form: Form, function: Option<&FunctionKey>) -> Response<Body> {
        let (content_type, text) = match form {
            Form::Text => ("text/plain; charset=utf-8", format!("{}: {self}\n", self.reason())),
            Form::Problem => ("application/problem+json", self.problem(function)),
            Form::Json => ("application/json", self.problem(function)),
        };
        let mut response = Response::new(Body::full(text));
        *response.status_mut() = self.row().status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// Problem details. `type` names the kind, which is a closed set; `reason` may be the pods' own.
    fn problem(&self, function: Option<&FunctionKey>) -> String {
        let row = self.row();
        let mut problem = serde_json::json!({
            "type": format!("tag:pilotlight.dev,2026:errors/{}", row.kind),
            "title": row.status.canonical_reason(),
            "status": row.status.as_u16(),
            "detail": self.to_string(),
            "reason": self.reason(),
        });
        if let Some(function) = function {
            problem["namespace"] = function.namespace.as_ref().into();
            problem["function"] = function.name.as_ref().into();
        }
        format!("{problem}\n")
    }
}

/// As the gRPC protocol wants `grpc-message`: printable ASCII but `%`.
fn percent_encode(text: &str) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.extend(['%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use proptest::prelude::*;

    fn asked(name: HeaderName, value: &'static str) -> Asked {
        Asked::of(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))]))
    }

    fn decode(text: &str) -> Vec<u8> {
        let mut bytes = text.bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let hex = [bytes.next().unwrap(), bytes.next().unwrap()];
                out.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            } else {
                out.push(byte);
            }
        }
        out
    }

    #[test]
    fn grpc_clients_get_trailers_only() {
        let refusal = Refusal::CannotStart { reason: "ImagePullFailed".into(), message: "größe 100 %\n".into() };
        let response = refusal.response(&asked(CONTENT_TYPE, "application/grpc+proto"), None);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc+proto");
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()[REASON], "ImagePullFailed");
        assert_eq!(response.headers()[GRPC_PUSHBACK], "10000");
        let message = response.headers()["grpc-message"].to_str().unwrap();
        assert_eq!(message, "ImagePullFailed: the function cannot start: gr%C3%B6%C3%9Fe 100 %25%0A");
        assert!(http_body::Body::is_end_stream(response.body()));
    }

    #[test]
    fn grpc_web_and_lookalikes_are_plain_http() {
        for content_type in ["application/grpc-web", "application/grpcish", "text/plain"] {
            let response = Refusal::NoSocket.response(&asked(CONTENT_TYPE, content_type), None);
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{content_type}");
            assert!(!response.headers().contains_key(GRPC_STATUS), "{content_type}");
        }
    }

    #[test]
    fn a_method_that_is_not_supported_comes_with_those_that_are() {
        let response = Refusal::MethodNotSupported.response(&Asked::default(), None);
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(response.headers()[ALLOW].to_str().unwrap().contains("GET"));
    }

    proptest! {
        #[test]
        fn every_message_survives_percent_encoding(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let encoded = percent_encode(&text);
            prop_assert!(HeaderValue::from_str(&encoded).is_ok());
            prop_assert_eq!(decode(&encoded), text.as_bytes());
        }
    }
}
