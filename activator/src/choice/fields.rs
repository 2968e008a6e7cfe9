//! Cookies and query parameters by their names. Pure: allocates nothing, decodes nothing, and takes whatever bytes there are.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};

/// The values of a cookie, in the order in which the client sends them, over however many fields (HTTP/2 splits them).
pub fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let fields = headers.get_all(COOKIE).into_iter().map(HeaderValue::as_bytes);
    let pairs = fields.flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        (pair[..at].trim_ascii() == name.as_bytes()).then(|| pair[at + 1..].trim_ascii())
    })
}

/// The value of a query parameter, as it is sent; of several the first. Empty where there is no `=`.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        fields.iter().map(|field| (COOKIE, HeaderValue::from_bytes(field).unwrap())).collect()
    }

    fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
        cookies(headers, name).map(|value| std::str::from_utf8(value).unwrap()).collect()
    }

    #[test]
    fn cookies_are_found_over_all_fields() {
        let headers = headers(&[b"a=1; b=2;c=x=y", b" a=3 ;A=4; aa=5; bare; =6;d="]);
        assert_eq!(values(&headers, "a"), ["1", "3"]);
        assert_eq!(values(&headers, "c"), ["x=y"]);
        assert_eq!(values(&headers, "d"), [""]);
        assert!(values(&headers, "bare").is_empty() && values(&headers, "e").is_empty());
    }

    #[test]
    fn of_several_parameters_the_first_counts_and_nothing_is_decoded() {
        let query = "a=1&a=2&b&c=x=y&d%20e=f+g&=h";
        assert_eq!(parameter(query, "a"), Some("1"));
        assert_eq!(parameter(query, "b"), Some(""));
        assert_eq!(parameter(query, "c"), Some("x=y"));
        assert_eq!(parameter(query, "d%20e"), Some("f+g"));
        assert_eq!((parameter(query, "d e"), parameter(query, "A"), parameter("", "a")), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_cookie_field_is_survived_and_what_is_put_in_is_found(
            before in prop::collection::vec(any::<u8>(), 0..60),
            value in "[!-:<-~]{0,20}",
        ) {
            let mut field: Vec<u8> = before.into_iter().filter(|byte| *byte >= 32 && *byte != 127).collect();
            field.extend_from_slice(format!("; wanted={value}").as_bytes());
            let headers = headers(&[&field]);
            prop_assert_eq!(cookies(&headers, "wanted").last(), Some(value.as_bytes()));
        }

        #[test]
        fn any_query_is_survived_and_what_is_put_in_is_found(before in "\\PC{0,60}", value in "[^&]{0,20}") {
            let query = format!("{before}&wanted={value}");
            prop_assume!(parameter(&before, "wanted").is_none());
            prop_assert_eq!(parameter(&query, "wanted"), Some(value.as_str()));
        }
    }
}
