//! The bytes of one announcement and of its answer (ARCHITECTURE.md, "Beacons"). Pure.

use std::net::SocketAddr;

use crate::config::Config;

/// What an activator answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It knows the address now; these are other activators that should hear of it.
    Heard(Vec<SocketAddr>),
    /// It does not believe it and never will: its status and reason.
    Refused(String),
    /// It could not tell now.
    Later(String),
}

/// The request.
pub(crate) fn request(config: &Config) -> Vec<u8> {
    let Config { namespace, function, revision, uid, ip, .. } = config;
    let body = format!(
        "{{\"namespace\":\"{namespace}\",\"function\":\"{function}\",\"revision\":\"{revision}\",\"uid\":\"{uid}\",\"ip\":\"{ip}\"}}"
    );
    let head = format!(
        "POST /v1/beacon HTTP/1.1\r\nHost: pilotlight\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

/// Understands the whole answer, as read until the end of the connection.
pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    let said = || body.trim().to_owned();
    match status {
        Some(200) => Answer::Heard(body.lines().filter_map(|line| line.parse().ok()).collect()),
        Some(status @ 400..=499) if status != 429 => Answer::Refused(said()),
        _ => Answer::Later(said()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;
    use pilotlight_crds::control::{Beacon, PATH_BEACON};

    #[test]
    fn the_activator_s_own_types_understand_it() {
        let config = config(&["10.96.0.7:9092".parse().unwrap()]);
        let request = String::from_utf8(request(&config)).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("POST {PATH_BEACON} HTTP/1.1\r\n")), "{head}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
        let beacon: Beacon = serde_json::from_str(body).unwrap();
        let expected = Beacon {
            namespace: "shop".to_owned(),
            function: "hello".to_owned(),
            revision: "hello-3".to_owned(),
            uid: "0a1b-2c".to_owned(),
            ip: "10.244.0.7".parse().unwrap(),
        };
        assert_eq!(beacon, expected);
    }

    #[test]
    fn answers_are_told_apart_by_their_status() {
        let answered = |status: &str, body: &str| answer(format!("HTTP/1.1 {status}\r\nx: y\r\n\r\n{body}").as_bytes());
        let others = vec!["10.0.0.2:9092".parse().unwrap(), "[fd00::2]:9092".parse().unwrap()];
        assert_eq!(answered("200 OK", "10.0.0.2:9092\n[fd00::2]:9092\n"), Answer::Heard(others));
        assert_eq!(answered("200 OK", ""), Answer::Heard(Vec::new()));
        assert_eq!(answered("403 Forbidden", "SourceMismatch: no\n"), Answer::Refused("SourceMismatch: no".to_owned()));
        assert_eq!(answered("503 Service Unavailable", "Busy"), Answer::Later("Busy".to_owned()));
        assert_eq!(answered("429 Too Many Requests", "Busy"), Answer::Later("Busy".to_owned()));
        for cut in ["", "HTTP/1.1", "\r\n\r\n"] {
            assert!(matches!(answer(cut.as_bytes()), Answer::Later(_)), "{cut:?}");
        }
    }
}
