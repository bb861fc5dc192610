//! What a command answers, on stdout: the one place of this program that writes there.
//!
//! A reader that has heard enough (`| head -1`) is no fault: the rest of the answer is dropped, and the command ends as it would have
//! otherwise, with the exit code of what it found. Work that an answer comes in the midst of is not cut off. Whatever else keeps an
//! answer from leaving, as a full disk, is an error.

use std::{
    fmt,
    io::{self, ErrorKind, Write},
};

use anyhow::Context as _;

/// Answers with a line.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::answer::line(format_args!($($text)*))
    };
}

pub(super) use say;

/// Writes a line; [`say!`] is shorter.
pub(super) fn line(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    part(format_args!("{text}\n")).map(drop)
}

/// Writes a part of an answer, and tells whether somebody still reads it.
pub(super) fn part(text: fmt::Arguments<'_>) -> anyhow::Result<bool> {
    write(&mut io::stdout().lock(), text).context("the answer cannot be written to stdout")
}

fn write(out: &mut impl Write, text: fmt::Arguments<'_>) -> io::Result<bool> {
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes nothing, for one reason.
    struct Deaf(ErrorKind);

    impl Write for Deaf {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is_one() {
        assert!(write(&mut Vec::new(), format_args!("heard")).unwrap());
        assert!(!write(&mut Deaf(ErrorKind::BrokenPipe), format_args!("unheard")).unwrap());
        let refused = write(&mut Deaf(ErrorKind::StorageFull), format_args!("lost"));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
