//! The program: an allocator, a crypto provider, and the command that was asked for.

use std::process::ExitCode;

/// Many small buffers on many threads is what a gate allocates.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Chosen here, once: with two in the tree and none chosen, the first TLS connection would panic.
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("no provider was installed before");
    sluicegate::cli::run(std::env::args_os())
}
