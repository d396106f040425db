//! What a person asked for, on standard output. Who reads no further (`| head`) has what they wanted.

use std::io::{self, Write as _};
use std::process::ExitCode;

/// Writes a line. A success also if nobody reads it; a failure, which is told, if it can't be written.
pub fn say(text: &str) -> ExitCode {
    let mut output = io::stdout().lock();
    match writeln!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "holdfast: standard output can't be written: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}
