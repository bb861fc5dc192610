//! Measures bulk transfers over loopback: `cargo run --release -p protocol --example throughput [MEGABYTES]`.
//!
//! Both ends are in this process and share its cores, so that the number is a floor.

use std::time::Instant;

use certs::throwaway::{Federation, Material};
use protocol::message::{Content, TransferHeader, TransferKind};
use protocol::quic::{Limits, TlsMaterial, connect, listen};
use protocol::{Digest, Round};

fn tls(material: &Material) -> Result<TlsMaterial, Box<dyn std::error::Error>> {
    let list = Some(material.revocations.as_str());
    let Material {
        certificate,
        key,
        authority,
        ..
    } = material;
    Ok(TlsMaterial::from_pem(certificate, key, authority, list)?)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example for people")]
#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let megabytes: usize = std::env::args()
        .nth(1)
        .map_or(Ok(84), |text| text.parse())?;
    let federation = Federation::create("bench", &["site"])?;
    let limits = Limits::default();
    let address = "127.0.0.1:0".parse()?;
    let mut listener = listen(address, &tls(federation.server())?, &limits)?;
    let client = tls(federation.participant("site").ok_or("no site")?)?;
    let start = Instant::now();
    let dial = connect(listener.local_address(), &client, &limits);
    let (client, server) = tokio::join!(dial, listener.accept());
    let (client, server) = (client?, server.ok_or("closed")??);
    println!(
        "handshake and admission {:.1} ms",
        start.elapsed().as_secs_f64() * 1e3
    );

    let payload = vec![7; megabytes * 1_000_000];
    let content = Content::of(&payload);
    let plan = Digest::default();
    let header =
        TransferHeader::from_server(TransferKind::GlobalAdapter, Round::FIRST, plan, content);
    let payload = bytes::Bytes::from(payload);
    for _ in 0..5 {
        let start = Instant::now();
        let (header, payload) = (header, payload.clone());
        let sender = server.connection.clone();
        let sending =
            tokio::spawn(async move { sender.send_transfer(&header, payload, |_| ()).await });
        let transfer = client.connection.accept_transfer().await?;
        let received = transfer.receive(content.bytes, |_| ()).await?;
        sending.await??;
        let seconds = start.elapsed().as_secs_f64();
        let rate = received.len() as f64 / 1e6 / seconds;
        println!("{megabytes} MB in {seconds:.3} s: {rate:.0} MB/s");
    }
    Ok(())
}
