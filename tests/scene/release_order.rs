//! Of three replicas the two in the cloud go.

use std::io::Write;

use super::{
    record::write,
    release::{SERVICES, kept_at_home},
    stage::Stage,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r19_the_two_cloud_replicas_go_and_the_one_on_premises_stays_in_20_of_20_releases() {
    let stage = Stage::take(2 * SERVICES).await;
    // Without us it is chance, for comparison: nothing is expected of it.
    let kept = kept_at_home(&stage).await;
    // Not by `eprintln!`: libtest swallows that where nothing fails.
    writeln!(std::io::stderr(), "{kept}").unwrap();
    write("release.json", &serde_json::to_string(&kept).unwrap()).unwrap();
    assert_eq!(kept.with_us, kept.releases);
}
