//! Foreign text (kubelet's, a registry's, a container's own) made fit for one line of bounded length.

/// `text` on one line: control characters and runs of white space become one space.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// `text` on one line, without the full stop at its end, so that a remedy can follow.
pub(super) fn sentence(text: &str) -> String {
    let mut line = head(text, 600);
    let kept = line.trim_end_matches(['.', ';', ':', ' ']).len();
    line.truncate(kept);
    line
}

/// The beginning of `text` on one line, at most `max` bytes; `…` marks a cut.
pub(super) fn head(text: &str, max: usize) -> String {
    let mut line = one_line(text);
    if line.len() <= max {
        return line;
    }
    let mut end = max.saturating_sub('…'.len_utf8());
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line.push('…');
    line
}

/// The end of `text` on one line, at most `max` bytes; `…` marks a cut. What a process says last says most.
pub(super) fn tail(text: &str, max: usize) -> String {
    let line = one_line(text);
    if line.len() <= max {
        return line;
    }
    let mut start = line.len() - max.saturating_sub('…'.len_utf8());
    while !line.is_char_boundary(start) {
        start += 1;
    }
    format!("…{}", &line[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_character_boundaries_and_marks_the_cut() {
        let long = "ä".repeat(700);
        for max in 3..40 {
            for cut in [head(&long, max), tail(&long, max)] {
                assert!(cut.len() <= max, "{} > {max}", cut.len());
                assert!(cut.contains('…'));
            }
        }
        assert!(head("abc", 3) == "abc" && tail("abc", 3) == "abc");
        assert!(tail("first\nlast", 6).ends_with("ast"));
    }

    #[test]
    fn makes_one_line() {
        assert_eq!(one_line("\u{1b}[31mpanic:\r\n\tat\0x \n"), "[31mpanic: at x");
        assert_eq!(sentence("gone. \n"), "gone");
    }
}
