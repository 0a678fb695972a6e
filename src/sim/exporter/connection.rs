//! One connection: requests in, pages out, faults included.

use std::{
    io::{self, Write as _},
    sync::{Arc, atomic::Ordering},
};

use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Source, Stage, fault::Fault, page::GARBAGE};

/// Longest request head (R22); a longer one ends the connection.
const HEAD: usize = 16 << 10;
/// The format that both exporters answer with.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The parts of a request that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    page: bool,
    gzip: bool,
    close: bool,
}

/// Answers requests until the client leaves.
pub(super) async fn serve<S: Source>(mut stream: TcpStream, stage: Arc<Stage<S>>) {
    let mut buffer = Vec::new();
    // The client's leaving, in the middle of a page too, is its own affair.
    while let Ok(Some(request)) = next(&mut stream, &mut buffer).await {
        let answered = answer(&mut stream, &stage, &request).await;
        if !matches!(answered, Ok(true)) || request.close {
            break;
        }
    }
    let _ = stream.shutdown().await;
}

/// The next request; `None` when the client has closed.
async fn next(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Request>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let request = parse(&String::from_utf8_lossy(&buffer[..end]));
            buffer.drain(..end + 4);
            return Ok(Some(request));
        }
        if buffer.len() > HEAD || stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

fn parse(head: &str) -> Request {
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.strip_prefix("GET ")).and_then(|line| line.split([' ', '?']).next());
    let mut request = Request { page: path == Some("/metrics"), gzip: false, close: false };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let has = |word: &str| {
            value
                .split(',')
                .any(|part| part.split(';').next().is_some_and(|part| part.trim().eq_ignore_ascii_case(word)))
        };
        request.gzip |= name.eq_ignore_ascii_case("accept-encoding") && has("gzip");
        request.close |= name.eq_ignore_ascii_case("connection") && has("close");
    }
    request
}

/// Writes the answer. False if the connection cannot be used again.
async fn answer<S: Source>(stream: &mut TcpStream, stage: &Stage<S>, request: &Request) -> io::Result<bool> {
    if !request.page {
        whole(stream, "404 Not Found", b"404 page not found\n", request.gzip).await?;
        return Ok(true);
    }
    stage.requests.fetch_add(1, Ordering::Relaxed);
    let fault = *stage.fault.borrow();
    match fault {
        Fault::Dead | Fault::HangBeforeHeaders => healed(stage, fault).await,
        Fault::HangMidBody => {
            half(stream, stage.page().as_bytes()).await?;
            healed(stage, fault).await;
        }
        Fault::CutShort => half(stream, stage.page().as_bytes()).await?,
        Fault::NeverEnds => {
            stream
                .write_all(
                    format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes(),
                )
                .await?;
            let page = stage.page();
            let chunk = format!("{:x}\r\n{page}\r\n", page.len());
            while *stage.fault.borrow() == fault {
                stream.write_all(chunk.as_bytes()).await?;
            }
        }
        Fault::InternalError => {
            whole(stream, "500 Internal Server Error", b"error collecting metrics\n", request.gzip).await?;
            return Ok(true);
        }
        Fault::Garbage => {
            whole(stream, "200 OK", GARBAGE, request.gzip).await?;
            return Ok(true);
        }
        Fault::None
        | Fault::Values(_)
        | Fault::ZeroAttribution
        | Fault::SeriesAbsent
        | Fault::UtilizationAbsent
        | Fault::Frozen(_) => {
            whole(stream, "200 OK", stage.page().as_bytes(), request.gzip).await?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Waits until another fault, or none, is set.
async fn healed<S>(stage: &Stage<S>, fault: Fault) {
    // An error means that the stage is gone, and this connection with it.
    let _ = stage.fault.subscribe().wait_for(|now| *now != fault).await;
}

async fn whole(stream: &mut TcpStream, status: &str, body: &[u8], gzip: bool) -> io::Result<()> {
    let (encoding, body) = if gzip {
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), Compression::fast());
        encoder.write_all(body)?;
        ("Content-Encoding: gzip\r\n", encoder.finish()?)
    } else {
        ("", body.to_vec())
    };
    let mut answer =
        format!("HTTP/1.1 {status}\r\nContent-Type: {TEXT}\r\n{encoding}Content-Length: {}\r\n\r\n", body.len())
            .into_bytes();
    answer.extend(body);
    stream.write_all(&answer).await
}

/// Promises the whole body and sends half of it, cut in the middle of a line.
async fn half(stream: &mut TcpStream, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {TEXT}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&body[..body.len() / 2]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_for_its_path_encoding_and_connection() {
        let request = |page, gzip, close| Request { page, gzip, close };
        for (head, expected) in [
            ("GET /metrics HTTP/1.1\r\nHost: a", request(true, false, false)),
            ("GET /metrics?x=1 HTTP/1.1\r\nAccept-Encoding: deflate, GZIP;q=0.5", request(true, true, false)),
            ("GET /metrics HTTP/1.1\r\naccept-encoding: identity\r\nconnection: close", request(true, false, true)),
            ("GET /metricsx HTTP/1.1", request(false, false, false)),
            ("POST /metrics HTTP/1.1", request(false, false, false)),
            ("", request(false, false, false)),
        ] {
            assert_eq!(parse(head), expected, "{head}");
        }
    }
}
