//! Which revision a request goes on with, where a Function has several. Pure: plain values in, a place out; nothing is allocated for a request.
//!
//! What always holds: the word of the activator that has chosen already comes before all else, then the tag of the host name, then the tag in the
//! header, then the first rule that matches, then what keeps clients where they were, then a random draw; a tag or revision that is unknown is
//! passed over.

pub mod fields;
pub mod plan;
pub mod rule;
pub mod sticky;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::header::{HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Uri};
use pilotlight_crds::status::{RouteStatus, RouteTag};
use pilotlight_crds::{Function, names};

use crate::index::FunctionKey;
use rule::Rule;
use sticky::Sticky;

pub use plan::{Choice, Plan};

/// Which requests go where, whatever the shares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directions {
    /// The revisions that have a name of their own.
    pub tags: Box<[Tag]>,
    /// What is looked for in requests, in this order.
    pub rules: Box<[Rule]>,
    /// How clients stay with a revision, where that is wanted.
    pub sticky: Option<Sticky>,
}

/// A revision with a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The tag.
    pub tag: Arc<str>,
    /// The revision that it names.
    pub revision: Arc<str>,
    /// `<tag>-<function>.<namespace>`, where it answers.
    pub host: Arc<str>,
}

impl Directions {
    /// Tags and rules as the operator resolved them, and how the author wants clients to stay where they were.
    pub fn of(key: &FunctionKey, function: &Function, route: Option<&RouteStatus>) -> Self {
        let tag = |tag: &RouteTag| Tag {
            tag: tag.tag.as_str().into(),
            revision: tag.revision.as_str().into(),
            host: format!("{}.{}", names::tag_name(&tag.tag, &key.name), key.namespace).into(),
        };
        Self {
            tags: route.iter().flat_map(|route| &route.tags).map(tag).collect(),
            rules: route.iter().flat_map(|route| &route.matches).map(Rule::new).collect(),
            sticky: function.spec.sticky.as_ref().and_then(Sticky::new),
        }
    }

    /// The revisions that get requests by tag or rule.
    pub fn revisions(&self) -> impl Iterator<Item = &Arc<str>> {
        self.tags.iter().map(|tag| &tag.revision).chain(self.rules.iter().map(|rule| &rule.revision))
    }

    /// The revision of a tag.
    fn tagged(&self, tag: &[u8]) -> Option<&Arc<str>> {
        self.tags.iter().find(|known| known.tag.as_bytes() == tag).map(|known| &known.revision)
    }
}

/// A request, as far as the choice looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The revision that the activator chose which has relayed it.
    pub told: Option<&'a HeaderValue>,
    /// The tag of the host name that it came by.
    pub tag: Option<&'a str>,
    /// That host name.
    pub host: &'a HeaderValue,
    /// Its target.
    pub uri: &'a Uri,
    /// Its header fields, as the client sent them.
    pub headers: &'a HeaderMap,
}

impl<'a> Asked<'a> {
    /// The values of a header. HTTP/2 has the host in another place.
    fn values(self, name: &HeaderName) -> impl Iterator<Item = &'a HeaderValue> {
        let is_host = *name == HOST;
        let fields = (!is_host).then(|| self.headers.get_all(name));
        fields.into_iter().flatten().chain(is_host.then_some(self.host))
    }
}
