//! From a `Host` header to a Function. Pure; looking a host up allocates nothing where it is in lower case.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

/// The domains under which `name.namespace` may be written.
#[derive(Clone, Debug)]
pub struct Domains {
    suffixes: Vec<String>,
}

impl Domains {
    /// The cluster's own domain (`cluster.local`) and the external one (may be empty).
    pub fn new(cluster: &str, external: &str) -> Self {
        let cluster = cluster.trim_matches('.').to_ascii_lowercase();
        let external = external.trim_matches('.').to_ascii_lowercase();
        let mut suffixes = vec![format!(".svc.{cluster}"), ".svc".to_owned()];
        if !external.is_empty() {
            suffixes.push(format!(".{external}"));
        }
        Self { suffixes }
    }

    /// `name.namespace` of a host with optional port, trailing dot and known suffix; `None` where it has another shape.
    pub fn short_name<'a>(&self, host: &'a str) -> Option<Cow<'a, str>> {
        let host = without_port(host)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        };
        let length = self
            .suffixes
            .iter()
            .find_map(|suffix| host.strip_suffix(suffix.as_str()))
            .filter(|short| is_short(short))
            .map_or(host.len(), str::len);
        let short = match host {
            Cow::Borrowed(host) => Cow::Borrowed(&host[..length]),
            Cow::Owned(mut host) => {
                host.truncate(length);
                Cow::Owned(host)
            }
        };
        is_short(&short).then_some(short)
    }
}

fn is_short(host: &str) -> bool {
    let mut labels = host.split('.');
    let two = [labels.next(), labels.next()];
    labels.next().is_none() && two.iter().all(|label| label.is_some_and(|l| !l.is_empty()))
}

fn without_port(host: &str) -> Option<&str> {
    if host.starts_with('[') {
        return None;
    }
    match host.split_once(':') {
        None => Some(host),
        Some((name, port)) => port.bytes().all(|b| b.is_ascii_digit()).then_some(name),
    }
}

/// Functions by `name.namespace`. A change costs the same beside one other as beside ten thousand, and holds a lookup up for no longer than it
/// takes to put one entry in.
#[derive(Debug)]
pub struct RouteTable<T> {
    domains: Domains,
    by_host: RwLock<HashMap<Box<str>, T>>,
}

impl<T: Clone> RouteTable<T> {
    /// A table of `(name.namespace, target)`.
    pub fn new(domains: Domains, routes: impl IntoIterator<Item = (String, T)>) -> Self {
        let by_host = routes.into_iter().map(|(host, to)| (host.into_boxed_str(), to)).collect();
        Self { domains, by_host: RwLock::new(by_host) }
    }

    /// The target of a `Host` header or authority.
    pub fn lookup(&self, host: &str) -> Option<T> {
        let short = self.domains.short_name(host)?;
        self.by_host.read().unwrap_or_else(PoisonError::into_inner).get(short.as_ref()).cloned()
    }

    /// Leads `name.namespace` to a target, or nowhere.
    pub fn set(&self, host: String, target: Option<T>) {
        let mut by_host = self.by_host.write().unwrap_or_else(PoisonError::into_inner);
        match target {
            Some(target) => by_host.insert(host.into_boxed_str(), target),
            None => by_host.remove(host.as_str()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> RouteTable<u8> {
        let domains = Domains::new("cluster.local", "fn.example.com");
        RouteTable::new(domains, [("hello.shop".to_owned(), 1), ("svc.svc".to_owned(), 2)])
    }

    #[test]
    fn every_documented_name_leads_to_the_function() {
        for host in [
            "hello.shop",
            "hello.shop:80",
            "hello.shop.",
            "HELLO.Shop",
            "hello.shop.svc",
            "hello.shop.svc:8080",
            "hello.shop.svc.cluster.local",
            "hello.shop.svc.cluster.local.",
            "hello.shop.fn.example.com",
            "Hello.Shop.FN.example.com:443",
        ] {
            assert_eq!(table().lookup(host), Some(1), "{host}");
        }
        assert_eq!(table().lookup("svc.svc"), Some(2), "a namespace may be called svc");
        assert_eq!(table().lookup("svc.svc.svc"), Some(2));
    }

    #[test]
    fn a_function_that_comes_or_goes_changes_its_own_name_alone() {
        let table = table();
        table.set("new.shop".to_owned(), Some(3));
        table.set("hello.shop".to_owned(), None);
        assert_eq!(
            (table.lookup("new.shop.svc"), table.lookup("hello.shop"), table.lookup("svc.svc")),
            (Some(3), None, Some(2))
        );
    }

    #[test]
    fn nothing_else_does() {
        for host in [
            "",
            ".",
            "hello",
            "shop",
            "hello.other",
            "a.hello.shop",
            "hello.shop.svc.cluster.other",
            "hello.shop.example.com",
            "hello..shop",
            ".hello.shop",
            "hello.shop:x",
            "[::1]:80",
            "hello.shop.fn.example.com.evil",
        ] {
            assert_eq!(table().lookup(host), None, "{host}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(host in "\\PC*") {
            let _ = table().lookup(&host);
        }
    }
}
