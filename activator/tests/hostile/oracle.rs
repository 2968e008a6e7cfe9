//! An independent, strict reading of a stream of HTTP/1 requests: what RFC 9112 lets a recipient be sure of, nothing it merely tolerates.
//! It shares no code with the activator. The recording app reads with it, and it says what a client's bytes mean.

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    pub(crate) minor: u8,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// What of a request no hop may change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Essence {
    method: String,
    target: Vec<u8>,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// What stands at the front of some bytes.
#[derive(Debug)]
pub(crate) enum Front {
    /// A whole request, of so many bytes.
    Whole(Message, usize),
    /// The beginning of one.
    Part,
    /// Something that may be understood in two ways.
    Ambiguous(&'static str),
}

/// What a whole stream means.
#[derive(Debug)]
pub(crate) struct Meaning {
    pub(crate) messages: Vec<Message>,
    pub(crate) end: End,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After a whole request.
    Clean,
    /// After a request that is the connection's last; whatever follows is nobody's request.
    Last,
    /// Within a request.
    Part,
    /// With something ambiguous.
    Ambiguous(&'static str),
}

/// A line without its CRLF, and the position behind it.
type Line<'a> = Option<Result<(&'a [u8], usize), &'static str>>;

fn line(bytes: &[u8], at: usize) -> Line<'_> {
    for position in at..bytes.len() {
        match bytes[position] {
            b'\n' => return Some(Err("LF without CR")),
            b'\r' => {
                return match bytes.get(position + 1) {
                    Some(b'\n') => Some(Ok((&bytes[at..position], position + 2))),
                    Some(_) => Some(Err("CR without LF")),
                    None => None,
                };
            }
            b'\t' | 0x20..=0x7e | 0x80..=0xff => {}
            _ => return Some(Err("control character")),
        }
    }
    None
}

macro_rules! line {
    ($bytes:expr, $at:expr) => {
        match line($bytes, $at) {
            None => return Front::Part,
            Some(Err(why)) => return Front::Ambiguous(why),
            Some(Ok(found)) => found,
        }
    };
}

fn token(text: &[u8]) -> bool {
    let others = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.iter().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

fn host(text: &[u8]) -> bool {
    let others = b"-._~!$&'()*+;=%:[]";
    text.iter().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// As `http::Uri` takes it: what the RFC allows, and some that real clients send.
fn path(text: &[u8]) -> bool {
    let split = text.iter().position(|c| *c == b'?').unwrap_or(text.len());
    let (path, query) = text.split_at(split);
    let plain = |c: &u8| c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%[]\\^_|\"{}".contains(c);
    path.iter().all(plain) && query.iter().all(|c| plain(c) || b"?`".contains(c))
}

fn first_line(text: &[u8]) -> Result<(String, Vec<u8>, u8), &'static str> {
    let parts: Vec<&[u8]> = text.split(|c| *c == b' ').collect();
    let [method, target, version] = parts[..] else { return Err("request line") };
    if !token(method) {
        return Err("method");
    }
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        _ => return Err("version"),
    };
    let lower = target.to_ascii_lowercase();
    let rest = lower.strip_prefix(b"http://").or_else(|| lower.strip_prefix(b"https://"));
    let fits = if method == b"CONNECT" {
        true
    } else if target.starts_with(b"/") {
        path(target)
    } else if let Some(rest) = rest {
        let end = rest.iter().position(|c| b"/?".contains(c)).unwrap_or(rest.len());
        end > 0 && host(&rest[..end]) && path(&rest[end..])
    } else {
        target == b"*" && method == b"OPTIONS"
    };
    if !fits {
        return Err("target");
    }
    Ok((String::from_utf8_lossy(method).into_owned(), target.to_vec(), minor))
}

fn field(text: &[u8]) -> Result<(String, Vec<u8>), &'static str> {
    let colon = text.iter().position(|c| *c == b':').ok_or("field without colon")?;
    if !token(&text[..colon]) {
        return Err("field name");
    }
    let name = String::from_utf8_lossy(&text[..colon]).to_ascii_lowercase();
    let mut value = &text[colon + 1..];
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    Ok((name, value.to_vec()))
}

enum Framing {
    Length(usize),
    Chunked,
}

fn framing(minor: u8, fields: &[(String, Vec<u8>)]) -> Result<Framing, &'static str> {
    let all = |name: &str| fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_slice()).collect::<Vec<_>>();
    match all("host")[..] {
        [] if minor == 0 => {}
        [value] if host(value) => {}
        _ => return Err("host"),
    }
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([length], []) => {
            let digits = !length.is_empty() && length.len() < 19 && length.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(length).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            Ok(Framing::Length(number.ok_or("content-length")?))
        }
        ([], [coding]) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        _ => Err("framing"),
    }
}

/// Reads the request at the front of `bytes`.
pub(crate) fn front(bytes: &[u8]) -> Front {
    let (first, mut at) = line!(bytes, 0);
    let (method, target, minor) = match first_line(first) {
        Ok(parts) => parts,
        Err(why) => return Front::Ambiguous(why),
    };
    let mut message = Message { method, target, minor, fields: Vec::new(), body: Vec::new() };
    loop {
        let (text, next) = line!(bytes, at);
        at = next;
        if text.is_empty() {
            break;
        }
        match field(text) {
            Ok(field) => message.fields.push(field),
            Err(why) => return Front::Ambiguous(why),
        }
    }
    match framing(minor, &message.fields) {
        Err(why) => Front::Ambiguous(why),
        Ok(Framing::Length(length)) => match bytes.get(at..).and_then(|rest| rest.get(..length)) {
            None => Front::Part,
            Some(body) => {
                message.body = body.to_vec();
                Front::Whole(message, at + length)
            }
        },
        Ok(Framing::Chunked) => chunks(bytes, at, message),
    }
}

fn chunks(bytes: &[u8], mut at: usize, mut message: Message) -> Front {
    loop {
        let (text, next) = line!(bytes, at);
        let split = text.iter().position(|c| !c.is_ascii_hexdigit()).unwrap_or(text.len());
        let (digits, mut extension) = text.split_at(split);
        while let [b' ' | b'\t', rest @ ..] = extension {
            extension = rest;
        }
        let ends_well = split == text.len() || extension.first() == Some(&b';');
        let size = std::str::from_utf8(digits).ok().and_then(|d| usize::from_str_radix(d, 16).ok());
        let Some(size) = size.filter(|_| ends_well && digits.len() < 16) else { return Front::Ambiguous("chunk size") };
        at = next;
        if size == 0 {
            break;
        }
        let Some(end) = at.checked_add(size).filter(|end| *end <= bytes.len()) else { return Front::Part };
        message.body.extend_from_slice(&bytes[at..end]);
        match &bytes[end..bytes.len().min(end + 2)] {
            b"\r\n" => at = end + 2,
            b"\r" | b"" => return Front::Part,
            _ => return Front::Ambiguous("chunk end"),
        }
    }
    loop {
        let (text, next) = line!(bytes, at);
        at = next;
        if text.is_empty() {
            return Front::Whole(message, at);
        }
        if let Err(why) = field(text) {
            return Front::Ambiguous(why);
        }
    }
}

impl Message {
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_slice()).collect()
    }

    fn connection_has(&self, token: &str) -> bool {
        let listed = self.values("connection").join(&b',').to_ascii_lowercase();
        listed.split(|c| *c == b',').any(|t| t.trim_ascii() == token.as_bytes())
    }

    /// Whether the connection ends after it, as sender or recipient may wish.
    pub(crate) fn is_last(&self) -> bool {
        let upgrade = self.minor == 1 && self.values("upgrade").iter().any(|v| !v.eq_ignore_ascii_case(b"h2c"));
        let keeps = !self.connection_has("close") && (self.minor == 1 || self.connection_has("keep-alive"));
        upgrade || !keeps || self.method == "CONNECT"
    }

    /// What must arrive unchanged at the app, whatever hop it took.
    pub(crate) fn essence(&self) -> Essence {
        let mut target = self.target.clone();
        if !target.starts_with(b"/") && target != b"*" {
            let authority = target.windows(3).position(|w| w == b"://").map_or(0, |p| p + 3);
            let end = target[authority..].iter().position(|c| b"/?".contains(c));
            target = end.map_or_else(Vec::new, |end| target[authority + end..].to_vec());
            if !target.starts_with(b"/") {
                target.insert(0, b'/');
            }
        }
        let mut fields: Vec<_> = self.fields.iter().filter(|(n, _)| n.starts_with("x-s-")).cloned().collect();
        fields.retain(|(name, _)| !self.connection_has(name));
        fields.sort();
        Essence { method: self.method.clone(), target, fields, body: self.body.clone() }
    }
}

/// Reads a whole stream. Up to two empty lines before a request are passed over, as RFC 9112 (2.2) asks for.
pub(crate) fn meaning(bytes: &[u8]) -> Meaning {
    let mut messages = Vec::new();
    let mut at = 0;
    loop {
        let mut skipped = 0;
        while skipped < 2 && bytes[at..].starts_with(b"\r\n") {
            (at, skipped) = (at + 2, skipped + 1);
        }
        if at == bytes.len() {
            return Meaning { messages, end: End::Clean };
        }
        match front(&bytes[at..]) {
            Front::Whole(message, length) => {
                at += length;
                let last = message.is_last();
                messages.push(message);
                if last {
                    return Meaning { messages, end: End::Last };
                }
            }
            Front::Part => return Meaning { messages, end: End::Part },
            Front::Ambiguous(why) => return Meaning { messages, end: End::Ambiguous(why) },
        }
    }
}
