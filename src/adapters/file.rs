//! The audit log in a file, one JSON object a line. Events wait in a bounded queue for the one task that
//! writes them, so that nobody waits for a disk; what finds the queue full is counted as lost.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::mem;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_util::sync::CancellationToken;

use crate::domain::NodeId;
use crate::lifecycle::{Hangups, Seldom, Tasks};
use crate::ports::{AuditEvent, AuditSink};

/// Events that wait to be written; some MiB.
const QUEUE: usize = 8192;

/// Written at once.
const BATCH: usize = 1024;

/// A file that can't be written is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Appends to a file. It is opened anew when its name leads elsewhere, as after a rotation, and at SIGHUP.
#[derive(Debug)]
pub struct FileAudit {
    lines: Sender<String>,
    lost: Arc<AtomicU64>,
    full: Seldom,
}

impl FileAudit {
    /// Opens the file, or makes it, for this user alone. It is written until the tasks are told to stop,
    /// and once more with what waits then.
    ///
    /// # Errors
    /// If it can't be opened.
    pub fn open(path: &Path, tasks: &Tasks) -> io::Result<Self> {
        Self::with_queue(path, tasks, QUEUE)
    }

    fn with_queue(path: &Path, tasks: &Tasks, queue: usize) -> io::Result<Self> {
        let file = open(path)?;
        let writer = Writer { path: path.to_owned(), file: Some(file), unwritten: Vec::new(), written: 0 };
        let (lines, waiting) = mpsc::channel(queue);
        let lost = Arc::<AtomicU64>::default();
        tasks.spawn(write_all(writer, waiting, lost.clone(), tasks.stopped()));
        Ok(Self { lines, lost, full: Seldom::default() })
    }
}

impl AuditSink for FileAudit {
    fn write(&self, node: &NodeId, event: &AuditEvent) {
        if self.lines.try_send(event.to_json(node) + "\n").is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            if let Some(unsaid) = self.full.again() {
                tracing::error!(unsaid, "an event of the audit log is lost: too many wait to be written");
            }
        }
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

async fn write_all(
    mut writer: Writer,
    mut waiting: Receiver<String>,
    lost: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let (mut hangups, faults, mut stopped) = (Hangups::heard(), Seldom::default(), false);
    while !stopped {
        let mut lines = Vec::new();
        tokio::select! {
            biased;
            // None if whoever could say something is gone.
            some = waiting.recv_many(&mut lines, BATCH), if writer.unwritten.is_empty() => stopped = some == 0,
            () = tokio::time::sleep(AGAIN), if !writer.unwritten.is_empty() => {}
            () = hangups.next() => writer.file = None,
            () = stop.cancelled() => {
                stopped = true;
                waiting.close();
                waiting.recv_many(&mut lines, QUEUE).await;
            }
        }
        lines.iter().for_each(|line| writer.unwritten.extend_from_slice(line.as_bytes()));
        let attempt = tokio::task::spawn_blocking(move || {
            let attempt = writer.write();
            (writer, attempt)
        });
        // It does not panic, and nobody aborts it.
        let Ok((back, attempt)) = attempt.await else { return };
        writer = back;
        if let Err(error) = attempt
            && let Some(unsaid) = faults.again()
        {
            tracing::error!(%error, unsaid, file = %writer.path.display(), "the audit log can't be written: its events wait");
        }
    }
    let left = writer.left();
    if left > 0 {
        lost.fetch_add(left, Ordering::Relaxed);
        tracing::error!(left, file = %writer.path.display(), "events of the audit log are lost: it can't be written");
    }
}

#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: Option<File>,
    /// Whole lines, of which so many bytes are in the file.
    unwritten: Vec<u8>,
    written: usize,
}

impl Writer {
    /// Leaves what could not be written for the next attempt.
    fn write(&mut self) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) if !has_moved(&file, &self.path) => file,
            _ => {
                let mut file = open(&self.path)?;
                // Half a line in the file before is of no use to the next; and nothing is written behind one.
                self.written = self.whole();
                if !ends_with_a_line(&mut file)? {
                    file.write_all(b"\n")?;
                }
                file
            }
        };
        while self.written < self.unwritten.len() {
            match file.write(&self.unwritten[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.file = Some(file);
                    return Err(error);
                }
            }
        }
        self.file = Some(file);
        self.written = 0;
        mem::take(&mut self.unwritten);
        Ok(())
    }

    /// Up to the end of the last line that is in the file whole.
    fn whole(&self) -> usize {
        memchr::memrchr(b'\n', &self.unwritten[..self.written]).map_or(0, |end| end + 1)
    }

    fn left(&self) -> u64 {
        memchr::memchr_iter(b'\n', &self.unwritten[self.whole()..]).count() as u64
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Whether it has no half a line at its end, of which a full disk or a crash took the rest.
fn ends_with_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn has_moved(file: &File, path: &Path) -> bool {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(named)) => identity(open) != identity(named),
        (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
        (Err(_), Ok(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::lifecycle::Ending;
    use crate::ports::Deed;

    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("holdfast-audit-{}", uuid::Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn lines(&self, name: &str) -> Vec<String> {
            let text = fs::read_to_string(self.0.join(name)).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }

        async fn has(&self, name: &str, lines: usize) {
            for _ in 0..500 {
                if self.lines(name).len() == lines {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("{name} has {:?}", self.lines(name));
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn tell(audit: &FileAudit, times: usize) {
        let node = NodeId::parse("n").unwrap();
        (0..times).for_each(|_| audit.write(&node, &AuditEvent::new(Deed::SessionOpened)));
    }

    #[tokio::test]
    async fn events_are_appended_and_follow_the_name_of_the_file() {
        let (folder, tasks) = (Folder::new(), Tasks::new());
        let path = folder.0.join("audit.json");
        fs::write(&path, "{}\n").unwrap();
        let audit = FileAudit::open(&path, &tasks).unwrap();
        tell(&audit, 2000);
        folder.has("audit.json", 2001).await;
        fs::rename(&path, folder.0.join("audit.1")).unwrap();
        tell(&audit, 1);
        folder.has("audit.json", 1).await;
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600, "it is nobody else's");
        // What waits at the end is written before it.
        tell(&audit, 500);
        assert_eq!(tasks.finish(Duration::from_secs(5)).await, Ending::Clean);
        assert_eq!((folder.lines("audit.json").len(), folder.lines("audit.1").len()), (501, 2001));
        assert_eq!(audit.lost(), 0);
        tell(&audit, 1);
        assert_eq!(audit.lost(), 1, "nobody writes any more");
    }

    #[tokio::test]
    async fn while_it_cannot_be_written_events_wait_and_beyond_the_queue_are_counted() {
        let (folder, tasks) = (Folder::new(), Tasks::new());
        let inner = folder.0.join("inner");
        fs::create_dir(&inner).unwrap();
        let audit = FileAudit::with_queue(&inner.join("audit.json"), &tasks, 10).unwrap();
        fs::rename(&inner, folder.0.join("away")).unwrap();
        tell(&audit, 1);
        // Until it was tried, and waits to be tried again.
        while audit.lines.capacity() < 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tell(&audit, 15);
        assert_eq!(audit.lost(), 5);
        fs::create_dir(&inner).unwrap();
        folder.has("inner/audit.json", 11).await;
        fs::remove_dir_all(&inner).unwrap();
        tell(&audit, 3);
        assert_eq!(tasks.finish(Duration::from_secs(5)).await, Ending::Clean);
        assert_eq!(audit.lost(), 8, "what waits at the end and can't be written is not lost in silence");
    }

    #[test]
    fn a_line_is_not_torn_between_two_files() {
        let folder = Folder::new();
        let path = folder.0.join("audit.json");
        let (unwritten, file) = (b"{\"a\":1}\n{\"b\":2}\n".to_vec(), None);
        let mut writer = Writer { path, file, unwritten, written: 11 };
        assert_eq!(writer.left(), 1);
        writer.write().unwrap();
        assert_eq!(folder.lines("audit.json"), [r#"{"b":2}"#]);
    }
}
