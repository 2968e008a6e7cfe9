//! Tells the activators, again and again until each has answered or the time is over: then the API server has told them long ago.
//!
//! What always holds: time, bytes and the number of activators are bounded; nobody's silence keeps another from being told.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::wire::{self, Answer};

/// After that, Kubernetes itself has reported the address.
const GIVE_UP: Duration = Duration::from_secs(20);
/// An address whose interface is not up yet costs a second where one waits for it (ARP is asked again after that time); a new attempt does not.
const FIRST_CONNECT: Duration = Duration::from_millis(50);
const LAST_CONNECT: Duration = Duration::from_secs(1);
/// An activator that has not heard of the pod yet waits a little with its answer.
const ANSWER: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Activators at most.
const MOST_ACTIVATORS: usize = 32;
/// Bytes of an answer at most: the addresses of that many activators, and a head.
const MOST_BYTES: u64 = 4096;

/// Who has to be told.
struct Rounds {
    pending: Vec<SocketAddr>,
    told: Vec<SocketAddr>,
}

impl Rounds {
    fn add(&mut self, others: Vec<SocketAddr>) {
        for other in others {
            let known = self.pending.contains(&other) || self.told.contains(&other);
            if !known && self.pending.len() + self.told.len() < MOST_ACTIVATORS {
                self.pending.push(other);
            }
        }
    }
}

/// Tells every activator, and says on standard error what came of it.
pub(crate) fn announce(config: &Config) {
    let began = Instant::now();
    let request = wire::request(config);
    let mut rounds = Rounds { pending: config.activators.clone(), told: Vec::new() };
    let (mut connect, mut pause) = (FIRST_CONNECT, FIRST_PAUSE);
    let mut heard = 0;
    while !rounds.pending.is_empty() {
        let asked = std::mem::take(&mut rounds.pending);
        // All are asked before the first answer is waited for.
        let open: Vec<_> = asked.into_iter().map(|address| (address, send(address, connect, &request))).collect();
        let mut news = false;
        for (address, sent) in open {
            match sent.and_then(receive) {
                Ok(Answer::Heard(others)) => {
                    heard += 1;
                    rounds.told.push(address);
                    rounds.add(others);
                    news = true;
                }
                Ok(Answer::Refused(why)) => {
                    eprintln!("{address} does not believe it: {why}");
                    rounds.told.push(address);
                }
                Ok(Answer::Later(_)) | Err(_) => rounds.pending.push(address),
            }
        }
        if began.elapsed() > GIVE_UP {
            break;
        }
        if !news && !rounds.pending.is_empty() {
            std::thread::sleep(pause);
            pause = (pause * 2).min(LAST_PAUSE);
            connect = (connect * 2).min(LAST_CONNECT);
        }
    }
    eprintln!(
        "told {heard} activators of {} within {} ms; not reached: {}",
        config.ip,
        began.elapsed().as_millis(),
        rounds.pending.len()
    );
}

fn send(address: SocketAddr, limit: Duration, request: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(request)?;
    Ok(stream)
}

fn receive(stream: TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(wire::answer(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    type Told = Arc<Mutex<Vec<&'static str>>>;

    /// An activator that gives these answers, one a connection, and notes its name each time.
    fn activator(name: &'static str, answers: Vec<String>, told: &Told) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told = told.clone();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut got = [0; 2048];
                let mut len = 0;
                while !got[..len].ends_with(b"}") {
                    len += stream.read(&mut got[len..]).unwrap();
                }
                told.lock().unwrap().push(name);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    fn ok(others: &[SocketAddr]) -> String {
        let lines: String = others.iter().map(|other| format!("{other}\n")).collect();
        format!("HTTP/1.1 200 OK\r\n\r\n{lines}")
    }

    fn status(status: u16) -> String {
        format!("HTTP/1.1 {status} No\r\n\r\nno")
    }

    #[test]
    fn all_others_that_the_first_names_are_told_once() {
        let told = Told::default();
        let second = activator("second", vec![ok(&[])], &told);
        let third = activator("third", vec![ok(&[second])], &told);
        let first = activator("first", vec![ok(&[second, third, second])], &told);
        announce(&config(&[first]));
        let mut told = told.lock().unwrap().clone();
        // Who is asked in one round answers in any order.
        told[1..].sort_unstable();
        assert_eq!(told, ["first", "second", "third"]);
    }

    #[test]
    fn who_cannot_tell_now_is_asked_again_and_who_refuses_is_not() {
        let told = Told::default();
        let busy = activator("busy", vec![status(503), String::new(), ok(&[])], &told);
        let refuses = activator("refuses", vec![status(403)], &told);
        announce(&config(&[busy, refuses]));
        let told = told.lock().unwrap();
        assert_eq!(told.iter().filter(|name| **name == "busy").count(), 3);
        assert_eq!(told.iter().filter(|name| **name == "refuses").count(), 1);
    }

    #[test]
    fn an_activator_that_names_ever_more_others_is_bounded() {
        let mut rounds = Rounds { pending: Vec::new(), told: Vec::new() };
        rounds.add((1..1000).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect());
        assert_eq!(rounds.pending.len(), MOST_ACTIVATORS);
    }
}
