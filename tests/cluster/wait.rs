//! Waiting for a condition instead of for a time.

use std::{fmt::Display, time::Duration};

use tokio::time::Instant;

/// How long anything that a working cluster does may take. It only bounds what hangs, and costs nothing otherwise: the machine
/// may be slow and busy with all the other tests.
pub const PATIENCE: Duration = Duration::from_mins(5);

/// How often conditions are looked at.
pub const GLANCE: Duration = Duration::from_millis(200);

/// Asks again and again until the answer is `Ok`; fails with the last refusal after [`PATIENCE`].
pub async fn eventually<T, E: Display>(what: &str, ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    eventually_or_error(what, ask).await.unwrap_or_else(|error| panic!("{error}"))
}

/// As [`eventually`], for where a panic is not the right end.
pub async fn eventually_or_error<T, E: Display>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, String> {
    let start = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if start.elapsed() > PATIENCE => {
                return Err(format!("waited {PATIENCE:?} for {what}; still: {error}"));
            }
            Err(_) => tokio::time::sleep(GLANCE).await,
        }
    }
}
