//! A steady load on Functions in which every answer is looked at; what is not a 200 of the Function's is kept with its moment.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::http;
use crate::reach::{Address, Reach};

/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(10);

/// A request that was not answered with 200.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whom it was for.
    pub target: String,
    /// Before its connection was made.
    pub began: Instant,
    /// Whether it had a connection, so that something of it may have been sent.
    pub connected: bool,
    /// When it was known to have failed.
    pub ended: Instant,
    /// What went wrong.
    pub error: String,
    /// By the wall clock, for a look at logs.
    ended_at: jiff::Timestamp,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = self.ended.duration_since(self.began).as_millis();
        write!(f, "{} {} after {took} ms: {}", self.ended_at, self.target, self.error)
    }
}

/// A request that was answered with 200.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Before its connection was made.
    pub began: Instant,
    /// When all of it was there.
    pub ended: Instant,
    /// What it said.
    pub text: String,
}

/// Clients that send one request after the other, each over a connection of its own, until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<Failure>>>,
    answers: Arc<Mutex<Vec<Answered>>>,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts `clients` clients for each of the Functions.
    ///
    /// # Errors
    /// When a Function has no Service.
    pub async fn start(reach: &Reach, namespace: &str, functions: &[&str], clients: usize) -> Result<Self> {
        let mut load = Self {
            stop: Arc::default(),
            paused: Arc::default(),
            sent: Arc::default(),
            failures: Arc::default(),
            answers: Arc::default(),
            clients: JoinSet::new(),
        };
        for function in functions {
            let address = reach.address(namespace, function).await?;
            load.add(reach, function, &address, &format!("{function}.{namespace}.svc"), clients);
        }
        Ok(load)
    }

    /// Starts `clients` more, which ask at `address` for `host`; a failure of theirs names `target`.
    pub fn add(&mut self, reach: &Reach, target: &str, address: &Address, host: &str, clients: usize) {
        for _ in 0..clients {
            self.spawn(reach.clone(), target.to_owned(), address.clone(), host.to_owned());
        }
    }

    fn spawn(&mut self, reach: Reach, target: String, address: Address, host: String) {
        let (stop, sent, failures) = (Arc::clone(&self.stop), Arc::clone(&self.sent), Arc::clone(&self.failures));
        let (paused, answers) = (Arc::clone(&self.paused), Arc::clone(&self.answers));
        self.clients.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if paused.load(Ordering::Relaxed) {
                    tokio::time::sleep(PACE).await;
                    continue;
                }
                sent.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                let connection = reach.open(&address).await;
                let connected = connection.is_ok();
                let answer = async { http::get_over(connection?, &host, "/", began).await };
                let error = match answer.await {
                    Ok(answer) if answer.status.as_u16() == 200 => {
                        let answered = Answered { began, ended: Instant::now(), text: answer.text() };
                        held(&answers).push(answered);
                        None
                    }
                    Ok(answer) => Some(format!("{}: {}", answer.status, answer.text())),
                    Err(error) => Some(format!("{error:#}")),
                };
                if let Some(error) = error {
                    let (ended, ended_at) = (Instant::now(), jiff::Timestamp::now());
                    let failure = Failure { target: target.clone(), began, connected, ended, error, ended_at };
                    held(&failures).push(failure);
                }
                tokio::time::sleep(PACE).await; // the load's rate
            }
        });
    }

    /// Sends nothing more, or goes on.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// How many requests were begun.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// The requests that were answered with 200 so far, in the order of their ends.
    pub fn answers(&self) -> Vec<Answered> {
        held(&self.answers).clone()
    }

    /// Stops; how many requests were sent, and those that failed.
    ///
    /// # Errors
    /// When a client panicked, or nothing was sent.
    pub async fn end(mut self) -> Result<(usize, Vec<Failure>)> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client?;
        }
        let sent = self.sent();
        ensure!(sent > 0, "no request was sent");
        let failures = std::mem::take(&mut *held(&self.failures));
        Ok((sent, failures))
    }

    /// Stops; every request must have been answered with 200.
    ///
    /// # Errors
    /// When one was not; with the first few.
    pub async fn end_without_failure(self) -> Result<usize> {
        let (sent, failures) = self.end().await?;
        let first: Vec<String> = failures.iter().take(10).map(Failure::to_string).collect();
        ensure!(failures.is_empty(), "{} of {sent} requests failed, first:\n{}", failures.len(), first.join("\n"));
        Ok(sent)
    }
}

fn held<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}
