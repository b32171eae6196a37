//! What goes over the line to a service with TLS.

use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::super::super::fs;
use super::*;

/// Every client's first bytes in HTTP/2.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test]
async fn a_service_is_spoken_to_in_http2_over_tls_if_the_systems_authorities_know_it() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut tls = versions.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).expect("a key");
    tls.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let url = format!("https://localhost:{}", listener.local_addr().expect("bound").port());

    let mut known = rustls::RootCertStore::empty();
    known.add(certificate).expect("an authority");
    let asked = |roots| {
        let url = url.clone();
        tokio::spawn(async move {
            let transport = Transport::with_roots(&url, roots).expect("a URL");
            transport.stub().batch_write(fs::BatchWriteRequest::default()).await
        })
    };
    let calling = asked(known);
    let mut stream = acceptor.accept(listener.accept().await.expect("it connects").0).await.expect("it trusts us");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut first = [0; PREFACE.len()];
    stream.read_exact(&mut first).await.expect("it speaks");
    assert_eq!(&first, PREFACE);
    calling.abort();

    let calling = asked(rustls::RootCertStore::empty());
    acceptor.accept(listener.accept().await.expect("it connects").0).await.expect_err("it does not trust us");
    let answer = tokio::time::timeout(Duration::from_secs(60), calling).await.expect("an end").expect("no panic");
    assert_eq!(answer.expect_err("no service").code(), tonic::Code::Unavailable);
}
