//! What the program answers, on stdout.
//!
//! A reader that has heard enough (`| head -1`) is no fault: the rest of the answer is dropped, and the work goes on to its end.
//! Whatever else keeps an answer from leaving, as a full disk, is an error. Progress is `progress`'s.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

use anyhow::Context as _;

/// Answers with a line.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::answer::line(format_args!($($text)*))
    };
}

pub(crate) use say;

/// Writes a line; [`say!`] is shorter.
pub(crate) fn line(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("the answer cannot be written to stdout")
        }
        _ => Ok(()),
    }
}
