//! Which form of a refusal the client asks for, by its `Accept` header (RFC 9110, 12.5.1). Pure.
//!
//! Plain words are the default: people with curl and browsers get them. Whoever names JSON gets JSON, unless it prefers something else.

use http::HeaderMap;
use http::header::ACCEPT;

/// The forms of a refusal's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `text/plain`.
    Text,
    /// `application/problem+json` (RFC 9457).
    Problem,
    /// The same members as `application/json`, for clients that know no other.
    Json,
}

const OFFERS: [(Form, &str, &str); 3] = [
    (Form::Problem, "application", "problem+json"),
    (Form::Json, "application", "json"),
    (Form::Text, "text", "plain"),
];

/// How much a form is wanted: quality in thousandths, and how exactly the client named it (0: anything, 1: the type, 2: the form).
type Wanted = (u16, u8);

/// The form that the client prefers. Among equals, what it named itself comes before what only a wildcard allows, and JSON before text.
/// A client that wants none of them gets text: words that it did not ask for are better than none.
pub fn negotiate(headers: &HeaderMap) -> Form {
    let ranges: Vec<Range<'_>> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    let mut best: Option<(Wanted, Form)> = None;
    for (form, kind, subtype) in OFFERS {
        let Some(wanted) = wanted(&ranges, kind, subtype) else { continue };
        let only_by_wildcard = wanted.1 == 0 && form != Form::Text;
        if !only_by_wildcard && best.is_none_or(|(known, _)| wanted > known) {
            best = Some((wanted, form));
        }
    }
    best.map_or(Form::Text, |(_, form)| form)
}

/// The most exact range that covers a media type decides about it.
fn wanted(ranges: &[Range<'_>], kind: &str, subtype: &str) -> Option<Wanted> {
    let exact = |range: &Range<'_>| range.exactness(kind, subtype).map(|exactness| (exactness, range.quality));
    let (exactness, quality) = ranges.iter().filter_map(exact).max()?;
    (quality > 0).then_some((quality, exactness))
}

struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        let (kind, subtype) = parts.next()?.trim().split_once('/')?;
        let weight =
            parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let quality = match weight {
            None => 1000,
            Some((_, value)) => quality(value.trim())?,
        };
        Some(Self { kind, subtype, quality })
    }

    fn exactness(&self, kind: &str, subtype: &str) -> Option<u8> {
        if self.kind == "*" && self.subtype == "*" {
            return Some(0);
        }
        if !self.kind.eq_ignore_ascii_case(kind) {
            return None;
        }
        match self.subtype {
            "*" => Some(1),
            named => named.eq_ignore_ascii_case(subtype).then_some(2),
        }
    }
}

/// A weight in thousandths; `None` where it is none.
fn quality(text: &str) -> Option<u16> {
    let valid =
        text.len() <= 5 && text.starts_with(['0', '1']) && text[1..].bytes().all(|b| b == b'.' || b.is_ascii_digit());
    let value: f32 = if valid { text.parse().ok()? } else { return None };
    (value <= 1.0).then_some((value * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn form(accept: &[&str]) -> Form {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        negotiate(&headers)
    }

    #[test]
    fn who_asks_for_json_gets_json() {
        for accept in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json, text/plain, */*",
            "application/json;q=0.1",
        ] {
            assert_eq!(form(&[accept]), Form::Json, "{accept}");
        }
        for accept in ["application/problem+json", "application/problem+json, application/json", "application/*"] {
            assert_eq!(form(&[accept]), Form::Problem, "{accept}");
        }
    }

    #[test]
    fn weights_are_honoured() {
        assert_eq!(form(&["application/json;q=0.4, text/plain;q=0.5"]), Form::Text);
        assert_eq!(form(&["application/json;q=0.5, text/plain;q=0.4"]), Form::Json);
        assert_eq!(form(&["application/json;q=0, */*"]), Form::Text);
        assert_eq!(form(&["application/problem+json;q=0.5, application/json"]), Form::Json);
        assert_eq!(form(&["text/*;q=0.3, application/json;q=0.2"]), Form::Text);
        assert_eq!(form(&["text/plain;q=0.9", "application/json"]), Form::Json, "in two fields");
        assert_eq!(form(&["application/json;q=2"]), Form::Text, "no weight at all");
    }

    #[test]
    fn everybody_else_gets_plain_words() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for accept in [browser, "*/*", "", "image/png", "nonsense", "application/json;q=0"] {
            assert_eq!(form(&[accept]), Form::Text, "{accept:?}");
        }
        assert_eq!(form(&[]), Form::Text);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(accept in "[ -~]{0,60}") {
            let _ = form(&[&accept]);
        }
    }
}
