//! Cuts a byte stream into lines of bounded length.
//!
//! What always holds: no more than one line of the allowed length, and one chunk, is kept in memory.

/// A line was longer than allowed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {limit} bytes")]
pub(super) struct LineTooLong {
    /// Bytes that a line may have.
    pub(super) limit: usize,
}

/// Cuts a byte stream into lines.
#[derive(Debug)]
pub(super) struct Lines {
    partial: Vec<u8>,
    limit: usize,
}

impl Lines {
    /// Lines of up to `limit` bytes, the line feed not counted.
    pub(super) fn new(limit: usize) -> Self {
        Self { partial: Vec::new(), limit }
    }

    /// Adds a chunk and calls `each` for every line that it completes; empty lines are skipped. An error of `each` ends it.
    pub(super) fn push<E: From<LineTooLong>>(
        &mut self,
        mut chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = chunk.split_at(end);
            chunk = &rest[1..];
            self.check(head.len())?;
            let line = if self.partial.is_empty() {
                head
            } else {
                self.partial.extend_from_slice(head);
                &self.partial
            };
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                each(line)?;
            }
            self.partial.clear();
        }
        self.check(chunk.len())?;
        self.partial.extend_from_slice(chunk);
        Ok(())
    }

    fn check(&self, more: usize) -> Result<(), LineTooLong> {
        if self.partial.len() + more > self.limit {
            return Err(LineTooLong { limit: self.limit });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limit: usize, chunks: &[&str]) -> Result<Vec<String>, LineTooLong> {
        let mut lines = Lines::new(limit);
        let mut seen = Vec::new();
        for chunk in chunks {
            lines.push(chunk.as_bytes(), |line| {
                seen.push(String::from_utf8_lossy(line).into_owned());
                Ok::<_, LineTooLong>(())
            })?;
        }
        Ok(seen)
    }

    #[test]
    fn lines_come_out_whole_wherever_the_stream_is_cut() {
        let text = "alpha\nbeta\r\n\n\ngamma\nunfinished";
        for cut in 0..text.len() {
            let (a, b) = text.split_at(cut);
            assert_eq!(lines(64, &[a, b]).unwrap(), ["alpha", "beta", "gamma"], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_more_does_not() {
        assert_eq!(lines(4, &["abcd\n"]).unwrap(), ["abcd"]);
        assert_eq!(lines(4, &["abcde\n"]), Err(LineTooLong { limit: 4 }));
        assert_eq!(lines(4, &["ab", "cde"]), Err(LineTooLong { limit: 4 }));
    }

    /// Any bytes, in pieces as long as the first byte says, against the lines of the whole.
    #[test]
    fn any_bytes_come_out_as_their_lines() {
        bolero::check!().for_each(|input: &[u8]| {
            let Some((length, bytes)) = input.split_first() else { return };
            let (mut lines, mut seen) = (Lines::new(64), Vec::new());
            let result = bytes.chunks(usize::from(*length).max(1)).try_for_each(|chunk| {
                lines.push(chunk, |line| {
                    seen.push(line.to_vec());
                    Ok::<_, LineTooLong>(())
                })
            });
            let mut whole: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            assert_eq!(result.is_err(), whole.iter().any(|line| line.len() > 64));
            if result.is_ok() {
                whole.pop();
                let whole = whole.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line));
                assert_eq!(seen, whole.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>());
            }
        });
    }
}
