//! Who may claim which host names: what the chart's value `hostnames` says. Pure.

use std::fmt;
use std::str::FromStr;

/// Which namespaces may have a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostnameRule {
    domain: String,
    /// All names below the domain, at any depth, rather than the domain itself.
    below: bool,
    /// Those that may. Empty: every namespace.
    namespaces: Vec<String>,
}

impl FromStr for HostnameRule {
    type Err = String;

    /// Reads `DOMAIN=NAMESPACE[,NAMESPACE]`, where a domain may begin with `*.` and `*` stands for every namespace.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "write DOMAIN=NAMESPACE[,NAMESPACE], for example www.example.com=shop or *.example.com=*";
        let (domain, namespaces) = text.split_once('=').ok_or(FORM)?;
        let (below, domain) = domain.strip_prefix("*.").map_or((false, domain), |domain| (true, domain));
        if !is_name(domain) {
            return Err(format!("{domain:?} is no domain: {FORM}"));
        }
        let every = namespaces == "*";
        let named = namespaces.split(',').filter(|_| !every).map(str::to_owned).collect::<Vec<_>>();
        if let Some(odd) = named.iter().find(|namespace| namespace.contains('.') || !is_name(namespace)) {
            return Err(format!("{odd:?} is no namespace: {FORM}"));
        }
        Ok(Self { domain: domain.to_owned(), below, namespaces: named })
    }
}

impl HostnameRule {
    fn covers(&self, host: &str) -> bool {
        match host.strip_suffix(self.domain.as_str()) {
            Some(rest) if self.below => rest.len() > 1 && rest.ends_with('.'),
            Some(rest) => rest.is_empty(),
            None => false,
        }
    }

    fn allows(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|allowed| allowed == namespace)
    }
}

fn is_name(text: &str) -> bool {
    let plain = |label: &str| {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(good) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(plain)
}

/// Why a host name cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No rule lets the namespace have it.
    NotAllowed,
    /// It is, or could be, some Function's own name.
    Reserved,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAllowed => {
                "is not this namespace's to have: whoever runs Pilotlight allows it with the chart's value hostnames"
            }
            Self::Reserved => "has the form of a Function's own name, <name>.<namespace> and a domain: choose another",
        })
    }
}

/// All rules, and the names that nobody can have.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<HostnameRule>,
    /// Domain below which Functions have their own names.
    domain: Option<String>,
}

impl Rules {
    /// Of these rules. `domain`: the external domain of Functions' own names.
    pub fn new(rules: Vec<HostnameRule>, domain: Option<String>) -> Self {
        Self { rules, domain }
    }

    /// Whether a Function of `namespace` may have `host`.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, namespace: &str, host: &str) -> Result<(), Refused> {
        if self.is_own_name(host) {
            return Err(Refused::Reserved);
        }
        let allowed = self.rules.iter().any(|rule| rule.covers(host) && rule.allows(namespace));
        if allowed { Ok(()) } else { Err(Refused::NotAllowed) }
    }

    fn is_own_name(&self, host: &str) -> bool {
        let external = self.domain.as_deref().and_then(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
        let own = external.is_some_and(|short| short.split('.').count() == 2);
        own || host.split('.').skip(1).any(|label| label == "svc")
    }
}
