//! What a person asked for, on standard output, and what went wrong, beside it. Who reads no further (`| head`) has what
//! they wanted.

use std::io::{self, Write as _};
use std::process::ExitCode;

/// Writes a line.
///
/// # Errors
/// If nobody reads it, or it can't be written.
pub fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}")?;
    output.flush()
}

/// Writes a line. A success also if nobody reads it; a failure, which is told, if it can't be written.
pub fn say(text: &str) -> ExitCode {
    match print(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("holdfast: standard output can't be written: {error}"));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Writes a line to standard error, if anybody reads it.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
