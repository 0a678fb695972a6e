//! The site on premises loses its link during a burst, just when the load falls; and a cloud node dies beside it.

use std::time::Duration;

use futures::future::{join_all, try_join_all};

use super::{
    fleet::{KUBELETS, ONPREM, add_node},
    node_loss,
    service::{CALM, Service, note},
    site::Site,
    stage::Stage,
    way::Way,
};

/// One service each, side by side.
const WAYS: [Way; 3] = [Way::Plain, Way::Advise, Way::Act];
/// Longer than an HPA's stabilization and the engine's window on this control plane, and some of their periods.
const WOULD_HAVE_ACTED: Duration = Duration::from_secs(16);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_site_has_no_link_the_cloud_is_not_released_and_when_it_is_back_the_cloud_goes_first() {
    let stage = Stage::take(0).await;
    let mut site = Site::start(&stage, WAYS.len()).await.unwrap();
    let start = |way: Way| {
        let (name, title) = (format!("link-loss-{}", way.name()), format!("A lost link: {}", way.label()));
        let stage = &stage;
        async move { Service::start(stage, way, &name, &title).await }
    };
    let services = try_join_all(WAYS.map(start)).await.unwrap();
    // The site is full; the other service has a node with a link of its own.
    add_node(&stage.client, "onprem-0", KUBELETS).await.unwrap();
    let beside = Service::start(&stage, Way::Plain, "node-loss", "A cloud node dies").await.unwrap();
    let (node_loss, link_loss) = futures::join!(node_loss::befalls(beside), befalls(&mut site, services));
    node_loss.unwrap_or_else(|error| panic!("the loss of a cloud node: {error}"));
    link_loss.unwrap_or_else(|error| panic!("the loss of the link: {error}"));
}

async fn befalls(site: &mut Site<'_>, services: Vec<Service<'_>>) -> Result<(), String> {
    let fleet = &services[0].stage.fleet;
    try_join_all(services.iter().map(Service::burst)).await?;
    let before = fleet.picture();
    site.cut().await;
    let cuts: Vec<f64> = services.iter().map(|service| service.record.note("the site loses its link")).collect();
    for service in &services {
        service.reads(CALM);
    }
    // Arena's HPA says in its condition why it does not move, before and after the cluster notices.
    let plain = services[0].record.timeline();
    let because =
        |what: &'static str, why: &'static str| plain.until(what, move |m| !m.active && m.message.contains(why));
    because("the HPA to hold for a silent pool", "none of the 1 ready pods in pool").await?;
    site.is_lost().await?;
    note(&services, "its nodes are lost, and its pods unready");
    because("the HPA to hold for a lost node", "is not heard of").await?;
    tokio::time::sleep(WOULD_HAVE_ACTED).await;
    let (now, silence) = (fleet.picture(), services[0].record.seconds() - cuts[0]);
    for (service, cut) in services.iter().zip(&cuts) {
        let asked = service.asked_since(*cut);
        if asked != [3] || service.replicas(&now) != service.replicas(&before) {
            service.record.write("released while the site was out of sight")?;
            return Err(format!("{}: asked for {asked:?} while the site was out of sight", service.name()));
        }
    }
    site.mend().await?;
    note(&services, "the link is back");
    let ends = join_all(services.into_iter().map(|service| async {
        let (pool, uid) = service.falls_back().await?;
        let (name, home) = (service.name().to_owned(), uid == service.home);
        service
            .finish(&format!("three replicas stay for {silence:.0} s of silence; then the cloud goes first"))
            .await?;
        if home {
            Ok(())
        } else {
            Err(format!("{name}: the replica that is left is in {pool:?} and not at home in {ONPREM}"))
        }
    }));
    ends.await.into_iter().collect()
}
