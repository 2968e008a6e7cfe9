//! HTTP/1.1: GET without a body, answers with a Content-Length.

use super::{Answer, Asked, Broken, LARGE, SMALL};

/// A head longer than this is an error.
const HEAD: usize = 16 * 1024;
const FIELDS: usize = 64;

/// The client's side.
#[derive(Debug)]
pub(crate) struct Client {
    request: Vec<u8>,
    head: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Free,
    Head { tag: u64 },
    Body { tag: u64, status: u16, left: usize },
}

impl Client {
    pub(super) fn new(host: &str, path: &str) -> Self {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
        Self { request: request.into_bytes(), head: Vec::new(), state: State::Free }
    }

    pub(super) fn has_room(&self) -> bool {
        matches!(self.state, State::Free)
    }

    pub(super) fn request(&mut self, tag: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.request);
        self.state = State::Head { tag };
    }

    pub(super) fn receive(&mut self, mut input: &[u8], answers: &mut Vec<Answer>) -> Result<(), Broken> {
        while !input.is_empty() {
            match self.state {
                State::Free => return Err(Broken(format!("{} bytes came that nobody asked for", input.len()))),
                State::Head { tag } => {
                    let Some((used, status, left)) = self.head(input)? else { return Ok(()) };
                    input = &input[used..];
                    self.advance(tag, status, left, answers);
                }
                State::Body { tag, status, left } => {
                    let taken = left.min(input.len());
                    input = &input[taken..];
                    self.advance(tag, status, left - taken, answers);
                }
            }
        }
        Ok(())
    }

    fn advance(&mut self, tag: u64, status: u16, left: usize, answers: &mut Vec<Answer>) {
        self.state = State::Body { tag, status, left };
        if left == 0 {
            self.state = State::Free;
            answers.push(Answer { tag, status });
        }
    }

    /// Bytes used of `input`, status and length of the body; `None` where the head goes on.
    fn head(&mut self, input: &[u8]) -> Result<Option<(usize, u16, usize)>, Broken> {
        let before = self.head.len();
        if before == 0 {
            if let Some((length, status, body)) = parse_response(input)? {
                return Ok(Some((length, status, body)));
            }
            self.head.extend_from_slice(input);
            return Ok(None);
        }
        self.head.extend_from_slice(input);
        let parsed = parse_response(&self.head)?;
        if parsed.is_none() && self.head.len() > HEAD {
            return Err(Broken("the head of a response has no end".into()));
        }
        if parsed.is_some() {
            self.head.clear();
        }
        Ok(parsed.map(|(length, status, body)| (length - before, status, body)))
    }
}

fn parse_response(bytes: &[u8]) -> Result<Option<(usize, u16, usize)>, Broken> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes).map_err(|error| Broken(format!("the response is not HTTP/1.1: {error}")))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let status = response.code.unwrap_or(0);
    let body = content_length(response.headers)?
        .ok_or_else(|| Broken(format!("a response with status {status} has no Content-Length")))?;
    Ok(Some((length, status, body)))
}

fn content_length(fields: &[httparse::Header<'_>]) -> Result<Option<usize>, Broken> {
    let Some(field) = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-length")) else {
        return Ok(None);
    };
    let length = std::str::from_utf8(field.value).ok().and_then(|value| value.parse().ok());
    length.map(Some).ok_or_else(|| Broken("a Content-Length is not a number".into()))
}

/// The app's side.
#[derive(Debug, Default)]
pub(crate) struct Server {
    head: Vec<u8>,
}

impl Server {
    /// Takes what came in; at most one request is there at a time, as no proxy here pipelines.
    ///
    /// # Errors
    /// It is not a GET without a body.
    pub(crate) fn receive(&mut self, input: &[u8]) -> Result<Option<Asked>, Broken> {
        if self.head.is_empty()
            && let Some((length, asked)) = parse_request(input)?
            && length == input.len()
        {
            return Ok(Some(asked));
        }
        self.head.extend_from_slice(input);
        match parse_request(&self.head)? {
            Some((length, asked)) if length == self.head.len() => {
                self.head.clear();
                Ok(Some(asked))
            }
            Some(_) => Err(Broken("bytes came after a request that has no body".into())),
            None if self.head.len() > HEAD => Err(Broken("the head of a request has no end".into())),
            None => Ok(None),
        }
    }
}

fn parse_request(bytes: &[u8]) -> Result<Option<(usize, Asked)>, Broken> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(bytes).map_err(|error| Broken(format!("the request is not HTTP/1.1: {error}")))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    if request.method != Some("GET") {
        return Err(Broken(format!("the app answers GET, not {}", request.method.unwrap_or_default())));
    }
    Ok(Some((length, Asked::from_path(request.path.unwrap_or_default())?)))
}

/// The app's answers, made once.
#[derive(Debug)]
pub(crate) struct Answers {
    small: Vec<u8>,
    large: Vec<u8>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { small: answer(SMALL), large: answer(LARGE) }
    }
}

impl Answers {
    /// The bytes of one.
    pub(crate) fn of(&self, asked: Asked) -> &[u8] {
        if asked == Asked::Large { &self.large } else { &self.small }
    }
}

fn answer(length: usize) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers are the same however the bytes are cut.
    #[test]
    fn responses_are_read_from_any_pieces() {
        let answers = Answers::default();
        for asked in [Asked::Small, Asked::Large] {
            for piece in [1, 7, 100, 100_000] {
                let mut client = Client::new("a", "/");
                let mut out = Vec::new();
                client.request(7, &mut out);
                assert!(!client.has_room());
                let mut got = Vec::new();
                for bytes in answers.of(asked).chunks(piece) {
                    client.receive(bytes, &mut got).unwrap();
                }
                assert_eq!(got, [Answer { tag: 7, status: 200 }]);
                assert!(client.has_room());
            }
        }
    }

    #[test]
    fn what_nobody_asked_for_is_an_error() {
        let mut client = Client::new("a", "/");
        let mut got = Vec::new();
        assert!(client.receive(b"HTTP/1.1 200 OK\r\n", &mut got).is_err());
        client.request(0, &mut Vec::new());
        assert!(client.receive(b"HTTP/1.1 200 OK\r\n\r\n", &mut got).is_err(), "no length");
    }

    #[test]
    fn requests_are_read_from_any_pieces() {
        let request = b"GET /64k HTTP/1.1\r\nHost: a\r\n\r\n";
        for piece in [1, 5, 1_000] {
            let mut server = Server::default();
            let asked: Vec<_> = request.chunks(piece).filter_map(|bytes| server.receive(bytes).unwrap()).collect();
            assert_eq!(asked, [Asked::Large]);
        }
        assert!(Server::default().receive(b"POST / HTTP/1.1\r\n\r\n").is_err());
    }
}
