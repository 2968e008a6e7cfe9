//! Rules that lead requests to a revision by what they are like, in the terms of the Gateway API's HTTPRouteMatch. Pure.
//!
//! What always holds: values are compared byte for byte, as they are sent; a rule that cannot be read, or that says nothing, matches nothing.

use std::sync::Arc;

use http::header::HeaderName;
use pilotlight_crds::status::RouteMatch;
use pilotlight_crds::traffic::{PathMatch, PathMatchType, RequestMatch, ValueMatch};

use super::{Asked, fields};

/// Requests that go to a revision whatever the shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The revision.
    pub revision: Arc<str>,
    matches: Box<[Match]>,
}

/// What a request must be like: all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Match {
    path: Option<PathTest>,
    headers: Box<[(HeaderName, Wanted)]>,
    cookies: Box<[(Box<str>, Wanted)]>,
    parameters: Box<[(Box<str>, Wanted)]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PathTest {
    Exact(Box<str>),
    /// Without a slash at its end.
    Prefix(Box<str>),
}

/// A value to look for; `None`: any.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted(Option<Box<str>>);

impl Rule {
    /// Reads a rule once, so that no request has to.
    pub fn new(rule: &RouteMatch) -> Self {
        Self { revision: rule.revision.as_str().into(), matches: rule.matches.iter().filter_map(Match::new).collect() }
    }

    /// Whether it is about this request.
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        self.matches.iter().any(|one| one.holds(asked))
    }
}

impl Match {
    /// `None` where no request can be like that, or all would be.
    fn new(wanted: &RequestMatch) -> Option<Self> {
        let named = |values: &[ValueMatch]| values.iter().map(|v| (v.name.as_str().into(), Wanted::new(v))).collect();
        let header = |value: &ValueMatch| Some((HeaderName::try_from(value.name.as_str()).ok()?, Wanted::new(value)));
        let read = Self {
            path: wanted.path.as_ref().map(PathTest::new),
            headers: wanted.headers.iter().map(header).collect::<Option<_>>()?,
            cookies: named(&wanted.cookies),
            parameters: named(&wanted.query_params),
        };
        let says = read.path.is_some() || read.headers.len() + read.cookies.len() + read.parameters.len() > 0;
        says.then_some(read)
    }

    fn holds(&self, asked: &Asked<'_>) -> bool {
        self.path.as_ref().is_none_or(|path| path.holds(asked.uri.path()))
            && self.headers.iter().all(|(name, wanted)| asked.values(name).any(|value| wanted.is(value.as_bytes())))
            && self
                .cookies
                .iter()
                .all(|(name, wanted)| fields::cookies(asked.headers, name).any(|value| wanted.is(value)))
            && self.parameters.iter().all(|(name, wanted)| {
                let value = asked.uri.query().and_then(|query| fields::parameter(query, name));
                value.is_some_and(|value| wanted.is(value.as_bytes()))
            })
    }
}

impl PathTest {
    fn new(path: &PathMatch) -> Self {
        let value = path.value.as_str();
        match path.kind {
            PathMatchType::Exact => Self::Exact(value.into()),
            PathMatchType::PathPrefix => Self::Prefix(value.strip_suffix('/').unwrap_or(value).into()),
        }
    }

    /// A prefix is made of whole segments: `/v2` is no beginning of `/v20`.
    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == &**exact,
            Self::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl Wanted {
    fn new(value: &ValueMatch) -> Self {
        Self(value.value.as_deref().map(Box::from))
    }

    fn is(&self, value: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|wanted| wanted.as_bytes() == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{HOST, HeaderValue};
    use http::{HeaderMap, Uri};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn rule(matches: Value) -> Rule {
        Rule::new(&serde_json::from_value(json!({"revision": "hello-2", "matches": matches})).unwrap())
    }

    /// Whether the rule with these matches is about a request with this target and these fields.
    fn is_about(matches: Value, target: &str, headers: &[(&str, &str)]) -> bool {
        let host = HeaderValue::from_static("hello.shop");
        let field = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let (uri, headers) = (target.parse::<Uri>().unwrap(), headers.iter().map(field).collect::<HeaderMap>());
        rule(matches).matches(&Asked { told: None, tag: None, host: &host, uri: &uri, headers: &headers })
    }

    #[test]
    fn a_prefix_is_made_of_whole_segments() {
        for value in ["/v2", "/v2/"] {
            let is = |target| is_about(json!([{"path": {"value": value}}]), target, &[]);
            for target in ["/v2", "/v2/", "/v2/a", "/v2?a=b", "http://hello.shop/v2/a?b"] {
                assert!(is(target), "{target} begins with {value}");
            }
            for target in ["/", "/v20", "/v", "/V2", "/a/v2", "/%762", "*"] {
                assert!(!is(target), "{target} does not begin with {value}");
            }
        }
        let all = |target| is_about(json!([{"path": {"value": "/"}}]), target, &[]);
        assert!(all("/") && all("/a/b") && all("http://hello.shop") && !all("*"));
    }

    #[test]
    fn an_exact_path_is_that_alone() {
        let is = |target| is_about(json!([{"path": {"type": "Exact", "value": "/v2"}}]), target, &[]);
        assert!(is("/v2") && is("/v2?a") && !is("/v2/") && !is("/v2/a") && !is("/v20"));
    }

    #[test]
    fn headers_go_by_name_in_any_case_and_by_whole_values() {
        let staff = || json!([{"headers": [{"name": "X-Role", "value": "staff"}]}]);
        assert!(is_about(staff(), "/", &[("x-role", "staff")]));
        assert!(is_about(staff(), "/", &[("x-role", "guest"), ("x-role", "staff")]), "any of several fields");
        for other in ["Staff", "staff, guest", "staff2", ""] {
            assert!(!is_about(staff(), "/", &[("x-role", other)]), "{other}");
        }
        assert!(!is_about(staff(), "/", &[]));
        let any = || json!([{"headers": [{"name": "x-role"}]}]);
        assert!(is_about(any(), "/", &[("x-role", "")]) && !is_about(any(), "/", &[("x-roles", "staff")]));
        let host = |value: &str| json!([{"headers": [{"name": "Host", "value": value}]}]);
        assert!(is_about(host("hello.shop"), "/", &[]), "also where HTTP/2 has it elsewhere");
        assert!(!is_about(host("other.shop"), "/", &[(HOST.as_str(), "other.shop")]));
    }

    #[test]
    fn cookies_and_parameters_go_by_name_and_value() {
        let cookie = || json!([{"cookies": [{"name": "beta", "value": "1"}]}]);
        assert!(is_about(cookie(), "/", &[("cookie", "a=b"), ("cookie", "c=d; beta=1")]));
        assert!(!is_about(cookie(), "/", &[("cookie", "beta=10; Beta=1; abeta=1")]));
        let parameter = || json!([{"queryParams": [{"name": "beta", "value": "1"}]}]);
        assert!(is_about(parameter(), "/?a=b&beta=1", &[]) && is_about(parameter(), "/?beta=1&beta=2", &[]));
        for target in ["/", "/?beta", "/?beta=2&beta=1", "/?beta=%31", "/?beta=1%20", "/beta=1"] {
            assert!(!is_about(parameter(), target, &[]), "{target}");
        }
        let present = || json!([{"queryParams": [{"name": "beta"}], "cookies": [{"name": "a"}]}]);
        assert!(is_about(present(), "/?beta", &[("cookie", "a=")]) && !is_about(present(), "/?beta", &[]));
    }

    #[test]
    fn all_of_one_match_and_any_of_several() {
        let both = json!({"path": {"value": "/v2"}, "headers": [{"name": "x-role"}, {"name": "x-team", "value": "a"}]});
        let matches = || json!([both, {"cookies": [{"name": "beta"}]}]);
        assert!(is_about(matches(), "/v2", &[("x-role", "b"), ("x-team", "a")]));
        assert!(!is_about(matches(), "/v2", &[("x-team", "a")]) && !is_about(matches(), "/", &[("x-role", "b")]));
        assert!(is_about(matches(), "/", &[("cookie", "beta=2")]));
    }

    #[test]
    fn what_says_nothing_or_cannot_be_read_matches_nothing() {
        for matches in [json!([]), json!([{}]), json!([{"headers": []}]), json!([{"headers": [{"name": "a b"}]}])] {
            assert!(!is_about(matches.clone(), "/", &[("a", "b")]), "{matches}");
        }
        let unreadable = json!([{"path": {"value": "/"}, "headers": [{"name": "a b"}]}]);
        assert!(!is_about(unreadable, "/", &[]), "nor does the rest of it");
    }

    proptest! {
        /// Against the words of the Gateway API: the lists of segments are compared.
        #[test]
        fn a_prefix_is_what_its_segments_say(prefix in "(/[ab]{0,2}){1,3}", path in "(/[ab]{0,2}){1,4}") {
            let segments = |path: &str| path.split('/').skip(1).map(str::to_owned).collect::<Vec<_>>();
            let wanted = segments(prefix.strip_suffix('/').unwrap_or(&prefix));
            let holds = PathTest::new(&PathMatch { kind: PathMatchType::PathPrefix, value: prefix }).holds(&path);
            prop_assert_eq!(holds, segments(&path).starts_with(&wanted), "{}", path);
        }

        #[test]
        fn any_request_and_any_rule_are_survived(
            target in "/[!-~]{0,40}",
            cookie in prop::collection::vec(any::<u8>(), 0..40),
            [path, name, value] in ["\\PC{0,20}", "\\PC{0,8}", "\\PC{0,8}"],
        ) {
            let Ok(uri) = target.parse::<Uri>() else { return Ok(()) };
            let cookie: Vec<u8> = cookie.into_iter().filter(|byte| *byte >= 32 && *byte != 127).collect();
            let mut headers = HeaderMap::new();
            headers.insert("cookie", HeaderValue::from_bytes(&cookie).unwrap());
            let host = HeaderValue::from_bytes(&cookie).unwrap();
            let named = json!([{"name": name, "value": value}]);
            let matches = json!([
                {"path": {"value": path}}, {"headers": named}, {"cookies": named}, {"queryParams": named},
            ]);
            let asked = Asked { told: Some(&host), tag: Some(&value), host: &host, uri: &uri, headers: &headers };
            let _ = rule(matches).matches(&asked);
        }
    }
}
