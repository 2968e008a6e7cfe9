//! Whether a binary is static, read from its ELF header. An image from scratch has no loader: a binary that needs one
//! fails there with "no such file or directory", which names the wrong file.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// Type of the program header that names a loader.
const PT_INTERP: u32 = 3;

/// Fails unless the file is an ELF binary that names no loader.
pub(crate) fn require_static(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    match interpreter(&bytes) {
        None => bail!("{} is no 64-bit little-endian ELF binary", path.display()),
        Some(true) => bail!(
            "{} is linked dynamically, and its image has no loader; it must be built with `-C target-feature=+crt-static` or CGO_ENABLED=0",
            path.display()
        ),
        Some(false) => Ok(()),
    }
}

/// Whether an ELF file names a loader; `None` where it is none that is understood here.
fn interpreter(elf: &[u8]) -> Option<bool> {
    let short = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(elf.get(at..at + 8)?.try_into().ok()?));
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(long(32)?).ok()?;
    let size = usize::from(short(54)?);
    for header in 0..usize::from(short(56)?) {
        let at = table.checked_add(header * size)?;
        if word(at)? == PT_INTERP {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_program_names_its_loader() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(interpreter(&own), Some(true));
    }

    #[test]
    fn other_files_are_not_taken_for_static() {
        assert_eq!(interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(interpreter(b"\x7fELF\x02\x01 cut"), None);
    }
}
