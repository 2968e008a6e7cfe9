//! The load client: one thread, one event loop. Closed, each connection asks again as soon as it has its answer: what a proxy can do at
//! most. Open, requests begin at a fixed rate whatever the answers do, and each counts from the moment at which it should have begun,
//! also where all connections were busy then: no coordinated omission.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::link::{Link, Taken};
use crate::wire::{Answer, Client as Side, Protocol};

const BUFFER: usize = 256 * 1024;
const TIMER: Token = Token(usize::MAX);
/// How long answers may take to come after the last request was sent.
const LINGER: Duration = Duration::from_secs(10);

/// Whom to ask, how, and over how many connections.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Where.
    pub(crate) address: SocketAddr,
    /// In what protocol.
    pub(crate) protocol: Protocol,
    /// How many connections.
    pub(crate) connections: usize,
    /// Requests at once on each connection; HTTP/1.1 has 1.
    pub(crate) streams: usize,
    /// The path; it names the size of the answer.
    pub(crate) path: &'static str,
}

/// When requests begin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as there is room.
    Closed(Duration),
    /// At a fixed rate.
    Open {
        /// Requests a second.
        per_second: u32,
        /// For how long.
        during: Duration,
    },
    /// One on each connection, at once; wait so long for the answers.
    Once(Duration),
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Answers with status 200.
    pub(crate) answered: u64,
    /// Requests with another answer, or none.
    pub(crate) failed: u64,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// Nanoseconds from when each request should have begun to its answer.
    pub(crate) latency: Histogram<u64>,
}

impl Outcome {
    /// A quantile in microseconds.
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

struct Connection {
    link: Link,
    side: Side,
}

/// Connections under load.
pub(crate) struct Client {
    poll: Poll,
    load: Load,
    connections: Vec<Option<Connection>>,
    /// Connections that may have room, a place for each request.
    idle: VecDeque<usize>,
    buffer: Vec<u8>,
    answers: Vec<Answer>,
    epoch: Instant,
}

impl Client {
    /// Opens the connections.
    ///
    /// # Errors
    /// One cannot be opened.
    pub(crate) fn connect(load: &Load) -> Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(load.connections);
        let host = load.address.to_string();
        for at in 0..load.connections {
            let stream = std::net::TcpStream::connect_timeout(&load.address, Duration::from_secs(5))
                .with_context(|| format!("connection {at} of {} to {host}", load.connections))?;
            stream.set_nonblocking(true)?;
            let mut link = Link::new(mio::net::TcpStream::from_std(stream))?;
            poll.registry().register(&mut link.stream, Token(at), Interest::READABLE | Interest::WRITABLE)?;
            let side = Side::new(load.protocol, &host, load.path, &mut link.out);
            connections.push(Some(Connection { link, side }));
        }
        let idle = (0..load.connections * load.streams).map(|place| place % load.connections).collect();
        let (buffer, answers) = (vec![0; BUFFER], Vec::new());
        Ok(Self { poll, load: load.clone(), connections, idle, buffer, answers, epoch: Instant::now() })
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Sends requests at this pace, and returns when all are answered.
    ///
    /// # Errors
    /// There is no timer, or no way to wait for sockets.
    pub(crate) fn run(&mut self, pace: Pace) -> Result<Outcome> {
        self.run_and_tell(pace, || {})
    }

    /// As [`Client::run`]; calls `begun` when the first requests are sent, with [`Pace::Once`] all of them.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub(crate) fn run_and_tell(&mut self, pace: Pace, begun: impl FnOnce()) -> Result<Outcome> {
        let start = self.nanos();
        let mut run = Run::new(start, pace)?;
        let timer = run.timer.as_ref().map(|timer| timer.as_fd().as_raw_fd());
        if let Some(fd) = timer {
            self.poll.registry().register(&mut SourceFd(&fd), TIMER, Interest::READABLE)?;
        }
        if matches!(pace, Pace::Closed(_) | Pace::Once(_)) {
            while let Some(at) = self.idle.pop_front() {
                self.ask(at, start, &mut run);
            }
        }
        begun();
        let outcome = self.until_answered(&mut run);
        if let Some(fd) = timer {
            self.poll.registry().deregister(&mut SourceFd(&fd))?;
        }
        outcome?;
        let took = Duration::from_nanos(self.nanos() - start);
        Ok(Outcome { answered: run.answered, failed: run.failed, took, latency: run.latency })
    }

    fn until_answered(&mut self, run: &mut Run) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        while self.nanos() < run.end || run.in_flight > 0 || !run.late.is_empty() {
            let now = self.nanos();
            if now > run.give_up {
                // What has no answer by now has failed; its connections cannot be used again.
                run.failed += run.in_flight + run.late.len() as u64;
                self.connections.iter_mut().for_each(|connection| *connection = None);
                return Ok(());
            }
            let until = if now < run.end { run.end } else { run.give_up };
            self.poll.poll(&mut events, Some(Duration::from_nanos(until - now) + Duration::from_millis(1)))?;
            for event in &events {
                match event.token() {
                    TIMER => self.tick(run)?,
                    Token(at) => self.serve(at, event.is_readable(), run),
                }
            }
            if self.connections.iter().all(Option::is_none) {
                bail!("every connection to {} broke", self.load.address);
            }
        }
        Ok(())
    }

    fn tick(&mut self, run: &mut Run) -> Result<()> {
        run.read_timer()?;
        let now = self.nanos().min(run.end);
        while run.next < now {
            let due = run.next;
            run.next += run.interval;
            match self.idle.pop_front() {
                Some(at) => self.ask(at, due, run),
                None => run.late.push_back(due),
            }
        }
        Ok(())
    }

    /// `due`: when the request should have begun.
    fn ask(&mut self, at: usize, due: u64, run: &mut Run) {
        run.in_flight += 1;
        let Some(connection) = self.connections[at].as_mut() else {
            run.fail(1);
            return;
        };
        connection.side.request(due, &mut connection.link.out);
        if connection.link.flush().is_err() {
            self.lose(at, run);
        }
    }

    fn lose(&mut self, at: usize, run: &mut Run) {
        if let Some(connection) = self.connections[at].take() {
            run.fail(connection.side.in_flight() as u64);
            self.idle.retain(|idle| *idle != at);
        }
    }

    fn serve(&mut self, at: usize, readable: bool, run: &mut Run) {
        let Some(connection) = self.connections[at].as_mut() else { return };
        let mut alive = true;
        while readable && alive {
            let taken = connection.link.read(&mut self.buffer);
            let count = match taken {
                Ok(Taken::More(count) | Taken::All(count)) => count,
                Ok(Taken::Closed) | Err(_) => 0,
            };
            let received = connection.side.receive(&self.buffer[..count], &mut connection.link.out, &mut self.answers);
            if let Err(error) = &received {
                eprintln!("load: {error}");
            }
            alive = received.is_ok() && matches!(taken, Ok(Taken::More(_) | Taken::All(_)));
            if !matches!(taken, Ok(Taken::More(_))) {
                break;
            }
        }
        let now = self.nanos();
        let mut answers = std::mem::take(&mut self.answers);
        for answer in answers.drain(..) {
            run.answer(answer, now);
            if alive {
                self.idle.push_back(at);
            }
        }
        self.answers = answers;
        self.follow(now, run);
        let flushed = self.connections[at].as_mut().is_none_or(|connection| connection.link.flush().is_ok());
        if !(alive && flushed) {
            self.lose(at, run);
        }
    }

    /// Begins what may begin now that there is room.
    fn follow(&mut self, now: u64, run: &mut Run) {
        while !self.idle.is_empty() {
            let due = match run.late.pop_front() {
                Some(due) => due,
                None if run.closed && now < run.end => now,
                None => return,
            };
            let Some(at) = self.idle.pop_front() else { return };
            self.ask(at, due, run);
        }
    }
}

/// One run's counts.
struct Run {
    closed: bool,
    end: u64,
    give_up: u64,
    interval: u64,
    next: u64,
    timer: Option<TimerFd>,
    late: VecDeque<u64>,
    in_flight: u64,
    answered: u64,
    failed: u64,
    latency: Histogram<u64>,
}

impl Run {
    fn new(start: u64, pace: Pace) -> Result<Self> {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let (during, linger, interval) = match pace {
            Pace::Closed(during) => (nanos(during), nanos(LINGER), 0),
            Pace::Open { per_second, during } => (nanos(during), nanos(LINGER), 1_000_000_000 / u64::from(per_second)),
            Pace::Once(patience) => (0, nanos(patience), 0),
        };
        let timer = (interval > 0).then(|| timer(interval)).transpose()?;
        Ok(Self {
            closed: matches!(pace, Pace::Closed(_)),
            end: start + during,
            give_up: start + during + linger,
            interval,
            next: start + interval,
            timer,
            late: VecDeque::new(),
            in_flight: 0,
            answered: 0,
            failed: 0,
            latency: Histogram::new_with_bounds(1, 600_000_000_000, 3)?,
        })
    }

    /// Makes the timer quiet until its next moment.
    fn read_timer(&self) -> Result<()> {
        match &self.timer {
            Some(timer) => timer.wait().or_else(|error| match error {
                nix::Error::EAGAIN => Ok(()),
                error => Err(error.into()),
            }),
            None => Ok(()),
        }
    }

    fn answer(&mut self, answer: Answer, now: u64) {
        self.in_flight -= 1;
        if answer.status == 200 {
            self.answered += 1;
            self.latency.saturating_record(now.saturating_sub(answer.tag).max(1));
        } else {
            self.failed += 1;
        }
    }

    fn fail(&mut self, requests: u64) {
        self.in_flight -= requests;
        self.failed += requests;
    }
}

/// A timer that fires each `interval` nanoseconds.
fn timer(interval: u64) -> Result<TimerFd> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    let interval = Duration::from_nanos(interval).into();
    timer.set(Expiration::Interval(interval), TimerSetTimeFlags::empty())?;
    Ok(timer)
}
