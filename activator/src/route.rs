//! From a `Host` header to a Function. Pure; looking a host up allocates nothing where it is in lower case.
//!
//! What always holds: a host name that was given to a Function by its author leads there, even where it has the form of another's own name; and a
//! Function's own name leads to it, even where it has the form of another's tag.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

/// The domains under which `name.namespace` may be written.
#[derive(Clone, Debug)]
pub struct Domains {
    /// The cluster's own.
    suffixes: Vec<String>,
    /// That of names outside the cluster.
    external: Option<String>,
}

/// From where requests come to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the cluster, where every name leads to its Function.
    Inside,
    /// From outside, too, where only the names of that side lead anywhere.
    Outside,
}

/// Where a host name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// There.
    pub to: T,
    /// Which side's name it is.
    pub side: Side,
}

impl Domains {
    /// The cluster's own domain (`cluster.local`) and the external one (may be empty).
    pub fn new(cluster: &str, external: &str) -> Self {
        let cluster = cluster.trim_matches('.').to_ascii_lowercase();
        let external = external.trim_matches('.').to_ascii_lowercase();
        let suffixes = vec![format!(".svc.{cluster}"), ".svc".to_owned()];
        Self { suffixes, external: (!external.is_empty()).then(|| format!(".{external}")) }
    }

    /// `name.namespace` of a [plain](plain) host, with a known suffix or none; `None` where it has another shape.
    fn short_name<'a>(&self, host: &'a str) -> Option<Found<&'a str>> {
        let inside = self.suffixes.iter().map(|suffix| (suffix, Side::Inside));
        let all = inside.chain(self.external.iter().map(|suffix| (suffix, Side::Outside)));
        let named = all.filter_map(|(suffix, side)| Some(Found { to: host.strip_suffix(suffix.as_str())?, side }));
        let mut named = named.chain([Found { to: host, side: Side::Inside }]);
        named.find(|found| is_short(found.to))
    }
}

/// A host in lower case, without port and trailing dot; `None` where it is no name.
fn plain(host: &str) -> Option<Cow<'_, str>> {
    let host = without_port(host)?;
    let host = host.strip_suffix('.').unwrap_or(host);
    let lower = !host.bytes().any(|byte| byte.is_ascii_uppercase());
    Some(if lower { Cow::Borrowed(host) } else { Cow::Owned(host.to_ascii_lowercase()) })
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

/// Functions by `name.namespace` and by further host names. A change costs the same beside one other as beside ten thousand, and holds a lookup up for no
/// longer than it takes to put one entry in.
#[derive(Debug)]
pub struct RouteTable<T> {
    domains: Domains,
    routes: RwLock<Routes<T>>,
}

#[derive(Debug)]
struct Routes<T> {
    /// By `name.namespace`.
    own: HashMap<Box<str>, T>,
    /// By `tag-name.namespace`.
    tags: HashMap<Box<str>, T>,
    /// By whole names.
    further: HashMap<Box<str>, T>,
}

impl<T: Clone> RouteTable<T> {
    /// A table of `(name.namespace, target)`.
    pub fn new(domains: Domains, routes: impl IntoIterator<Item = (String, T)>) -> Self {
        let own = routes.into_iter().map(|(host, to)| (host.into_boxed_str(), to)).collect();
        Self { domains, routes: RwLock::new(Routes { own, tags: HashMap::new(), further: HashMap::new() }) }
    }

    /// The target of a `Host` header or authority.
    pub fn lookup(&self, host: &str) -> Option<Found<T>> {
        let host = plain(host)?;
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(to) = routes.further.get(host.as_ref()) {
            return Some(Found { to: to.clone(), side: Side::Outside });
        }
        let Found { to: short, side } = self.domains.short_name(&host)?;
        let to = routes.own.get(short).or_else(|| routes.tags.get(short))?;
        Some(Found { to: to.clone(), side })
    }

    /// Leads `name.namespace` to a target, or nowhere.
    pub fn set(&self, host: String, target: Option<T>) {
        set(&mut self.write().own, host.into_boxed_str(), target);
    }

    /// Leads `tag-name.namespace` to a target, or nowhere, as far as it is no Function's own name.
    pub fn set_tag(&self, host: &str, target: Option<T>) {
        set(&mut self.write().tags, host.into(), target);
    }

    /// Leads a whole name, in lower case, to a target, or no further than any other.
    pub fn set_hostname(&self, host: &str, target: Option<T>) {
        set(&mut self.write().further, host.into(), target);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Routes<T>> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn set<T>(routes: &mut HashMap<Box<str>, T>, host: Box<str>, target: Option<T>) {
    match target {
        Some(target) => routes.insert(host, target),
        None => routes.remove(&host),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table() -> RouteTable<u8> {
        let domains = Domains::new("cluster.local", "fn.example.com");
        RouteTable::new(domains, [("hello.shop".to_owned(), 1), ("svc.svc".to_owned(), 2)])
    }

    fn led(table: &RouteTable<u8>, host: &str) -> Option<u8> {
        table.lookup(host).map(|found| found.to)
    }

    #[test]
    fn a_name_is_of_one_side() {
        let table = table();
        table.set_hostname("www.example.com", Some(4));
        let side = |host: &str| table.lookup(host).unwrap().side;
        for host in ["hello.shop", "hello.shop.svc:80", "hello.shop.svc.cluster.local"] {
            assert_eq!(side(host), Side::Inside, "{host}");
        }
        assert_eq!([side("hello.shop.fn.example.com"), side("www.example.com")], [Side::Outside; 2]);
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
            assert_eq!(led(&table(), host), Some(1), "{host}");
        }
        assert_eq!(led(&table(), "svc.svc"), Some(2), "a namespace may be called svc");
        assert_eq!(led(&table(), "svc.svc.svc"), Some(2));
    }

    #[test]
    fn a_function_that_comes_or_goes_changes_its_own_name_alone() {
        let table = table();
        table.set("new.shop".to_owned(), Some(3));
        table.set("hello.shop".to_owned(), None);
        assert_eq!(
            (led(&table, "new.shop.svc"), led(&table, "hello.shop"), led(&table, "svc.svc")),
            (Some(3), None, Some(2))
        );
    }

    #[test]
    fn a_further_name_leads_to_its_function_even_where_it_looks_like_anothers_own() {
        let table = table();
        table.set_hostname("www.example.com", Some(4));
        table.set_hostname("example.com", Some(5));
        table.set("example.com".to_owned(), Some(6));
        for host in ["www.example.com", "WWW.Example.com:8443", "www.example.com."] {
            assert_eq!(led(&table, host), Some(4), "{host}");
        }
        assert_eq!(led(&table, "example.com"), Some(5));
        assert_eq!(led(&table, "example.com.svc"), Some(6));
        assert_eq!((led(&table, "a.www.example.com"), led(&table, "hello.shop")), (None, Some(1)));
        table.set_hostname("example.com", None);
        assert_eq!(led(&table, "example.com"), Some(6));
    }

    #[test]
    fn a_tag_has_all_names_that_a_function_has_and_yields_to_one_of_that_name() {
        let table = table();
        table.set_tag("canary-hello.shop", Some(7));
        for suffix in ["", ".svc", ".svc.cluster.local", ".fn.example.com", ":80", "."] {
            assert_eq!(led(&table, &format!("Canary-hello.shop{suffix}")), Some(7), "{suffix}");
        }
        assert_eq!((led(&table, "canary-hello.other"), led(&table, "a.canary-hello.shop")), (None, None));
        table.set("canary-hello.shop".to_owned(), Some(8));
        assert_eq!(led(&table, "canary-hello.shop.svc"), Some(8));
        table.set_tag("canary-hello.shop", Some(9));
        assert_eq!(led(&table, "canary-hello.shop"), Some(8), "whoever comes first");
        table.set("canary-hello.shop".to_owned(), None);
        assert_eq!(led(&table, "canary-hello.shop"), Some(9));
        table.set_tag("canary-hello.shop", None);
        assert_eq!(led(&table, "canary-hello.shop"), None);
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
            assert_eq!(led(&table(), host), None, "{host}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(host in "\\PC*") {
            let _ = led(&table(), &host);
        }
    }
}
