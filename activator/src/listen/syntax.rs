//! The grammar of HTTP/1 lines (RFC 9110, 9112) as small pure functions; the strict reader puts them together.

/// What a request line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// HTTP/1.0 instead of HTTP/1.1.
    pub http_10: bool,
    /// The method is CONNECT.
    pub connect: bool,
}

/// Visible characters, spaces and tabs, and bytes above ASCII. Looks at every byte without a branch, which compilers turn into a few
/// wide instructions; so does [`is_token`].
pub fn is_all_text(bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |good, &byte| good & ((byte >= 0x20) & (byte != 0x7f) | (byte == b'\t')))
}

fn is_token(bytes: &[u8]) -> bool {
    const TOKEN: [bool; 256] = token_table();
    !bytes.is_empty() && bytes.iter().fold(true, |good, &byte| good & TOKEN[byte as usize])
}

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        table[byte as usize] = !matches!(
            byte,
            b'"' | b'('
                | b')'
                | b','
                | b'/'
                | b':'
                | b';'
                | b'<'
                | b'='
                | b'>'
                | b'?'
                | b'@'
                | b'['
                | b'\\'
                | b']'
                | b'{'
                | b'}'
        );
        byte += 1;
    }
    table
}

/// Reads `method SP target SP version`.
///
/// # Errors
/// What is wrong with it.
pub fn request_line(line: &[u8]) -> Result<RequestLine, &'static str> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("its first line is not a method, a target and a version with one space between");
    };
    if !is_token(method) {
        return Err("its method is not a token");
    }
    let http_10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err("its version is neither HTTP/1.1 nor HTTP/1.0"),
    };
    let connect = method == b"CONNECT";
    if !connect {
        check_target(method, target)?;
    }
    Ok(RequestLine { http_10, connect })
}

/// What may stand in a request target: visible ASCII without the fragment, which is no server's business, and without `<` and `>`,
/// which no client sends as they are and [`http::Uri`] does not take either.
pub fn is_in_target(byte: u8) -> bool {
    (byte > 0x20) & (byte < 0x7f) & (byte != b'#') & (byte != b'<') & (byte != b'>')
}

fn check_target(method: &[u8], target: &[u8]) -> Result<(), &'static str> {
    // `http::Uri` takes a backtick in the query only.
    let backtick = memchr::memchr2(b'?', b'`', target).is_some_and(|at| target[at] == b'`');
    if backtick || !target.iter().fold(true, |good, &byte| good & is_in_target(byte)) {
        return Err("its target has a character that must be percent-encoded");
    }
    let absolute = [&b"http://"[..], b"https://"]
        .iter()
        .find_map(|scheme| target.get(..scheme.len())?.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..]));
    match (target.first(), absolute) {
        (Some(b'/'), _) => Ok(()),
        (Some(b'*'), _) if target.len() == 1 && method == b"OPTIONS" => Ok(()),
        (_, Some(rest)) => {
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            if end > 0 && is_host(&rest[..end]) { Ok(()) } else { Err("its target's authority is not a host") }
        }
        _ => Err("its target is neither a path nor an http URL"),
    }
}

/// Host and port by their characters. Without userinfo, and without the comma that joins two values.
pub fn is_host(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=%:[]".contains(&byte))
}

/// Name and value of a field line; the value without the space around it.
///
/// # Errors
/// What is wrong with it.
pub fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("a header goes on over several lines");
    }
    let colon = memchr::memchr(b':', line).ok_or("a header has no colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err("a header's name is not a token");
    }
    Ok((name, trim(value)))
}

fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// A decimal number of at most 18 digits.
///
/// # Errors
/// It is something else.
pub fn content_length(value: &[u8]) -> Result<u64, &'static str> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err("its Content-Length is not a number that a body can have");
    }
    Ok(value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The size that a chunk's first line tells: at most 15 hexadecimal digits, then extensions, which are passed over.
///
/// # Errors
/// It is something else.
pub fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let extension = trim(&line[digits..]);
    let separated = match extension.first() {
        None => digits == line.len(),
        Some(first) => *first == b';',
    };
    if digits == 0 || digits > 15 || !separated {
        return Err("a chunk's size is not a hexadecimal number that a chunk can have");
    }
    let digit = |byte: &u8| (*byte as char).to_digit(16).map_or(0, u64::from);
    Ok(line[..digits].iter().fold(0, |number, byte| number << 4 | digit(byte)))
}
