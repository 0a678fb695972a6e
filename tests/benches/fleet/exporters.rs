//! The second process: one exporter per node, each on a port of its own.
//!
//! A page is 8 cards × 25 families with 12 labels a line, as dcgm-exporter and ACK's exporter have them, and five families
//! about two processes on each card: 280 lines, about 115 kB. It is written anew for each request, with values that move,
//! and compressed for whoever asks for that.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Router,
    http::{HeaderMap, header},
    response::IntoResponse,
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use tokio::{net::TcpListener, time::Instant};

use crate::cluster::{CARDS, Place, node_name, places};
use crate::families::FAMILIES;

const PROCESS_FAMILIES: [&str; 5] = ["SM_UTIL", "MEM_COPY_UTIL", "ENCODE_UTIL", "DECODE_UTIL", "MEM_USED"];
const PROCESSES: usize = 2;

/// Listens for each node, prints the ports as one line, and serves until standard input ends.
pub async fn run(nodes: usize) -> anyhow::Result<()> {
    let places: Arc<[Place]> = places(nodes).into();
    let started = Instant::now();
    let mut ports = Vec::with_capacity(nodes);
    for node in 0..nodes {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listen")?;
        ports.push(listener.local_addr()?.port().to_string());
        let places = Arc::clone(&places);
        let page = get(async move |headers: HeaderMap| {
            let page = page(node, nodes, &places, started.elapsed());
            let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
            answer(&page, accepted.is_some_and(|accepted| accepted.contains("gzip")))
        });
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", page)).await });
    }
    println!("{}", ports.join(" "));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

fn answer(page: &str, gzip: bool) -> axum::response::Response {
    let text = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    if !gzip {
        return ([text], page.to_owned()).into_response();
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 8), Compression::fast());
    match encoder.write_all(page.as_bytes()).and_then(|()| encoder.finish()) {
        Ok(body) => ([text, (header::CONTENT_ENCODING, "gzip")], body).into_response(),
        Err(error) => (axum::http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The node's page after so much time.
pub fn page(node: usize, nodes: usize, places: &[Place], elapsed: Duration) -> String {
    const STRING: &str = "strings take everything";
    let mut page = String::with_capacity(128 << 10);
    let host = node_name(node);
    let uuid = |card: usize| format!("GPU-6ad7ea4c-5517-05e7-{node:04}-7554cb4374d{card}");
    // 30 to 70 percent, each card at its own place of the wave.
    let percent = |card: usize| 50.0 + 20.0 * (elapsed.as_secs_f64() / 60.0 + (node + card) as f64).sin();
    for (n, family) in FAMILIES.iter().enumerate() {
        writeln!(page, "# HELP {family} One of dcgm-exporter's default counters.\n# TYPE {family} gauge")
            .expect(STRING);
        for card in 0..CARDS {
            write!(
                page,
                r#"{family}{{gpu="{card}",UUID="{}",pci_bus_id="00000000:{card}B:00.0",device="nvidia{card}",modelName="NVIDIA H100 80GB HBM3",Hostname="{host}",NodeName="{host}",NodePoolId="np0a1b2c3d4e5f67890a1b2c3d4e5f678",PodSource="ecs",DCGM_FI_DRIVER_VERSION="550.54.15",SupportDCGM="Yes",vgpu="0"}} "#,
                uuid(card)
            )
            .expect(STRING);
            match *family {
                "DCGM_FI_DEV_GPU_UTIL" => writeln!(page, "{:.0}", percent(card)),
                name if name.contains("_PROF_") && name.ends_with("ACTIVE") => {
                    writeln!(page, "{:.6}", percent(card) / 100.0)
                }
                name if name.ends_with("_UTIL") => writeln!(page, "0"),
                _ => writeln!(page, "{}", n * 1037 + card + elapsed.as_secs() as usize),
            }
            .expect(STRING);
        }
    }
    for family in PROCESS_FAMILIES {
        let family = format!("DCGM_CUSTOM_PROCESS_{family}");
        writeln!(page, "# HELP {family} One of ACK's per-process gauges.\n# TYPE {family} gauge").expect(STRING);
        for card in 0..CARDS {
            let Place { namespace, pod, .. } = &places[card * nodes + node];
            for process in 0..PROCESSES {
                let value = match &*family {
                    "DCGM_CUSTOM_PROCESS_SM_UTIL" => percent(card) / PROCESSES as f64,
                    "DCGM_CUSTOM_PROCESS_MEM_COPY_UTIL" => percent(card) / 4.0,
                    "DCGM_CUSTOM_PROCESS_MEM_USED" => 30_000.0 + card as f64,
                    _ => 0.0,
                };
                writeln!(
                    page,
                    r#"{family}{{AllocateMode="exclusive",ContainerName="kserve-container",NamespaceName="{namespace}",NodeName="{host}",NodePoolId="np0a1b2c3d4e5f67890a1b2c3d4e5f678",PodName="{pod}",PodSource="ecs",ProcessId="{}",ProcessName="python3",ProcessType="C",UUID="{}",device="nvidia{card}",gpu="{card}",modelName="NVIDIA H100 80GB HBM3"}} {value:.0}"#,
                    31_400 + card * PROCESSES + process,
                    uuid(card)
                )
                .expect(STRING);
            }
        }
    }
    page
}
