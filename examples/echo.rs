//! A bare echo on hyper and rustls: what the gate is measured beside (`loadtests/run compare`).
//!
//! What always holds: the same HTTP and TLS libraries as the gate's, the same runtime and allocator, a certificate of the
//! same kind, HTTP/1.1 and h2 by ALPN; each request's body is read whole and sent back, and nothing else is done.
//! `cargo run --release --example echo` prints the address (loopback, a free port) on a line of its own.

use std::convert::Infallible;
use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let tls = TlsAcceptor::from(Arc::new(tls()?));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    loop {
        // A connection that cannot be taken is the client's to miss: it counts what fails.
        let Ok((socket, _)) = listener.accept().await else { continue };
        tokio::spawn(serve(socket, tls.clone()));
    }
}

async fn serve(socket: TcpStream, tls: TlsAcceptor) {
    let Ok(()) = socket.set_nodelay(true) else { return };
    let Ok(stream) = tls.accept(socket).await else { return };
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(stream);
    // The client ends its connections in the middle of a request when its time is over: that is no fault.
    let _ = match is_h2 {
        true => http2::Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(echo)).await,
        false => http1::Builder::new().serve_connection(io, service_fn(echo)).await,
    };
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Ok(Response::new(Full::new(body)))
}

/// As the gate's development certificate: ECDSA on P-256.
fn tls() -> Result<rustls::ServerConfig, Box<dyn Error>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
