//! The two protocols as the load client and the app speak them: bytes in, bytes out, no I/O. They know only what a benchmark needs and
//! refuse everything else, so that a broken exchange is an error and never a fast answer.

pub(crate) mod frames;
pub(crate) mod h1;
pub(crate) mod h2;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1, one request at a time.
    Http1,
    /// HTTP/2 without TLS, known in advance.
    H2c,
}

/// An exchange that did not go as HTTP says, or went on in a way that the benchmark does not ask for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);

/// One answered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// What the caller gave with the request.
    pub(crate) tag: u64,
    /// Its HTTP status.
    pub(crate) status: u16,
}

/// The client's side of one connection.
#[derive(Debug)]
pub(crate) enum Client {
    /// HTTP/1.1.
    Http1(h1::Client),
    /// HTTP/2.
    H2c(h2::Client),
}

impl Client {
    /// For a new connection; writes what has to be said first.
    pub(crate) fn new(protocol: Protocol, host: &str, path: &str, out: &mut Vec<u8>) -> Self {
        match protocol {
            Protocol::Http1 => Self::Http1(h1::Client::new(host, path)),
            Protocol::H2c => Self::H2c(h2::Client::new(host, path, out)),
        }
    }

    /// Sends a request; `tag` comes back with its answer.
    pub(crate) fn request(&mut self, tag: u64, out: &mut Vec<u8>) {
        match self {
            Self::Http1(client) => client.request(tag, out),
            Self::H2c(client) => client.request(tag, out),
        }
    }

    /// Takes what came in.
    ///
    /// # Errors
    /// It is not what a server may send here.
    pub(crate) fn receive(&mut self, input: &[u8], out: &mut Vec<u8>, answers: &mut Vec<Answer>) -> Result<(), Broken> {
        match self {
            Self::Http1(client) => client.receive(input, answers),
            Self::H2c(client) => client.receive(input, out, answers),
        }
    }

    /// Requests without an answer.
    pub(crate) fn in_flight(&self) -> usize {
        match self {
            Self::Http1(client) => usize::from(!client.has_room()),
            Self::H2c(client) => client.in_flight(),
        }
    }
}

/// What the app was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// [`SMALL`] bytes.
    Small,
    /// [`LARGE`] bytes.
    Large,
    /// An answer only after somebody asks for [`Asked::Release`].
    Hold,
    /// Answers all that are held.
    Release,
}

/// Bytes of a small body.
pub(crate) const SMALL: usize = 128;
/// Bytes of a large body.
pub(crate) const LARGE: usize = 64 * 1024;

impl Asked {
    /// From a request's path.
    ///
    /// # Errors
    /// The app knows four paths.
    pub(crate) fn from_path(path: &str) -> Result<Self, Broken> {
        match path {
            "/" => Ok(Self::Small),
            "/64k" => Ok(Self::Large),
            "/hold" => Ok(Self::Hold),
            "/release" => Ok(Self::Release),
            other => Err(Broken(format!("the app knows no path {other}"))),
        }
    }
}
