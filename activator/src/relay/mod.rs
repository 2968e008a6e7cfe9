//! The way of a request from the activator that got it to the one that owns its Function ([`crate::ownership`]). It is streamed both
//! ways by the same code as to a pod, over connections kept for reuse, without time limits of its own: the owner keeps them all.
//!
//! What always holds: only a marked request counts as relayed, and only an activator that knows the control token can mark one; a
//! relayed request is handed on only under a greater epoch than it came with, so it never goes in a circle.

pub mod key;
pub mod line;
pub mod mark;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Response};
use pilotlight_crds::names::HEADER_REASON;

use crate::error::Refusal;
use crate::function::FunctionCell;
use crate::proxy::headers;
use mark::Mark;

/// The mark of a relayed request.
pub const HEADER_RELAY: HeaderName = HeaderName::from_static("pilotlight-relay");
/// The revision that a relayed request goes to, as the activator chose that got it.
pub const HEADER_REVISION: HeaderName = HeaderName::from_static("pilotlight-revision");
const INTERNAL_PREFIX: &str = "pilotlight-";

/// Whether another activator has relayed this request. What it says of the owner is noted before the request is admitted.
///
/// # Errors
/// It was meant for another activator.
pub fn arrived(door: &std::sync::Arc<FunctionCell>, headers: &HeaderMap) -> Result<bool, Refusal> {
    let Some(value) = headers.get(HEADER_RELAY) else { return Ok(false) };
    let Some(mark) = Mark::parse(value) else { return Ok(false) };
    let peers = &door.shared().peers;
    if !peers.keys.verify(&mark) {
        return Ok(false);
    }
    match &peers.uid {
        Some(me) if **me == *mark.owner => {
            door.named_owner(mark.epoch);
            Ok(true)
        }
        _ => Err(Refusal::NotTheOwner),
    }
}

/// Whether the owner says that it is not the owner: then it has done nothing with the request.
pub fn is_misdirected<B>(response: &Response<B>) -> bool {
    // For gRPC the status says nothing; no pod can set this field.
    response.headers().get(HEADER_REASON).is_some_and(|reason| reason == Refusal::NotTheOwner.reason())
}

/// Removes what concerns only one hop. The owner's own fields stay, unlike those that a pod might make up.
pub fn strip_response(fields: &mut HeaderMap) {
    let internal = |name: &HeaderName| name.as_str().starts_with(INTERNAL_PREFIX);
    let kept: Vec<(HeaderName, HeaderValue)> =
        fields.iter().filter(|(name, _)| internal(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    headers::strip_response(fields);
    for (name, value) in kept {
        fields.append(name, value);
    }
}
