//! What a beacon has to say and to whom, from the environment that the operator gave it. Pure.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// What a beacon has to say and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The pod's namespace.
    pub(crate) namespace: String,
    /// The Function that it belongs to.
    pub(crate) function: String,
    /// The revision that it runs.
    pub(crate) revision: String,
    /// The pod's uid.
    pub(crate) uid: String,
    /// The pod's address.
    pub(crate) ip: IpAddr,
    /// Where activators listen for beacons; of the same family as `ip`, so that the connection comes from there. Never empty.
    pub(crate) activators: Vec<SocketAddr>,
}

/// A variable that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    name: &'static str,
    problem: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: Pilotlight's operator sets it in the pods that it builds", self.name, self.problem)
    }
}

impl Config {
    /// Reads the variables, which `variable` gives by name.
    ///
    /// # Errors
    /// Names the variable that is missing or makes no sense.
    pub(crate) fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let text = |name: &'static str| match variable(name).filter(|value| !value.is_empty()) {
            None => Err(ConfigError { name, problem: "is not set" }),
            Some(value) if value.len() <= 253 && value.bytes().all(is_plain) => Ok(value),
            Some(_) => Err(ConfigError { name, problem: "is no name of Kubernetes" }),
        };
        let ip: IpAddr = variable("POD_IP")
            .and_then(|ip| ip.parse().ok())
            .ok_or(ConfigError { name: "POD_IP", problem: "is no IP address" })?;
        let activators: Vec<SocketAddr> = variable("PILOTLIGHT_ACTIVATORS")
            .unwrap_or_default()
            .split(',')
            .filter_map(|address| address.trim().parse().ok())
            .filter(|address: &SocketAddr| address.is_ipv4() == ip.is_ipv4())
            .collect();
        if activators.is_empty() {
            return Err(ConfigError {
                name: "PILOTLIGHT_ACTIVATORS",
                problem: "has no address of the family of POD_IP, as in 10.96.0.7:9092",
            });
        }
        Ok(Self {
            namespace: text("POD_NAMESPACE")?,
            function: text("PILOTLIGHT_FUNCTION")?,
            revision: text("PILOTLIGHT_REVISION")?,
            uid: text("POD_UID")?,
            ip,
            activators,
        })
    }
}

/// Names and uids of Kubernetes consist of these, so none needs quoting in JSON.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.'
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn variables(changes: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let given = [
            ("POD_NAMESPACE", "shop"),
            ("POD_UID", "0a1b-2c"),
            ("POD_IP", "10.244.0.7"),
            ("PILOTLIGHT_FUNCTION", "hello"),
            ("PILOTLIGHT_REVISION", "hello-3"),
            ("PILOTLIGHT_ACTIVATORS", "10.96.0.7:9092,[fd00::7]:9092"),
        ];
        Config::from_variables(|name| {
            let changed = changes.iter().chain(&given).find(|(known, _)| *known == name);
            changed.map(|(_, value)| (*value).to_owned())
        })
    }

    pub(crate) fn config(activators: &[SocketAddr]) -> Config {
        Config { activators: activators.to_vec(), ..variables(&[]).unwrap() }
    }

    #[test]
    fn only_activators_of_the_pod_s_family_are_asked() {
        assert_eq!(variables(&[]).unwrap().activators, ["10.96.0.7:9092".parse().unwrap()]);
        let six = variables(&[("POD_IP", "fd00::9")]).unwrap();
        assert_eq!(six.activators, ["[fd00::7]:9092".parse().unwrap()]);
    }

    #[test]
    fn a_mistake_names_the_variable() {
        for (name, value) in [
            ("POD_NAMESPACE", ""),
            ("POD_UID", "a\"b"),
            ("POD_IP", "hello"),
            ("PILOTLIGHT_FUNCTION", "a b"),
            ("PILOTLIGHT_REVISION", ""),
            ("PILOTLIGHT_ACTIVATORS", "pilotlight:9092"),
            ("PILOTLIGHT_ACTIVATORS", "[fd00::7]:9092"),
        ] {
            let error = variables(&[(name, value)]).unwrap_err();
            assert_eq!(error.name, name);
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
