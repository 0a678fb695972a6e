//! Small files that are taken up again when they change: cert-manager and kubelet replace them in place.

use std::{fmt::Display, future::Future, io, path::Path, pin::pin, time::Duration};

use tokio::time::MissedTickBehavior;

/// How often the files are looked at. Their content is compared: modification times are coarse, and a kubelet volume
/// changes by a symbolic link.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// A PEM file is a few kilobytes; what is larger is not one, and an error.
const MAX_BYTES: u64 = 1 << 20;

/// The content of a PEM file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_BYTES {
        let why = format!("{size} bytes are too many for a PEM file (limit {MAX_BYTES})");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    std::fs::read(path)
}

/// Hands what `read` gives to `take` whenever it is not what is in use, until `shutdown`. Files that are half written, or
/// missing for a moment, leave the old content in use; each such state is told once. `files` names them in the log.
pub(crate) async fn follow<C: PartialEq, E: Display>(
    files: &str,
    mut in_use: C,
    read: impl Fn() -> Result<C, E>,
    take: impl Fn(&C) -> Result<(), E>,
    shutdown: impl Future<Output = ()>,
) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shutdown = pin!(shutdown);
    let mut told = None;
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = look.tick() => {}
        }
        // A few small local files; an async read would go to a thread for each.
        let problem = match read() {
            Ok(content) if content == in_use => None,
            Ok(content) => match take(&content) {
                Ok(()) => {
                    tracing::info!(files, "changed files are in use");
                    in_use = content;
                    None
                }
                Err(error) => Some(error.to_string()),
            },
            Err(error) => Some(error.to_string()),
        };
        if problem != told {
            if let Some(problem) = &problem {
                tracing::warn!(files, problem, "changed files cannot be used: the previous content stays in use");
            }
            told = problem;
        }
    }
}
