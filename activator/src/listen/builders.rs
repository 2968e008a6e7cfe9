//! How hyper serves a client's connection: the process's bounds as hyper's settings.

use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

use super::stream::StreamExecutor;
use crate::limits::Limits;

/// HTTP/1. Slow heads are the sweep's, not a timer's for each connection.
pub fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let (bytes, fields) = limits.head_read();
    builder.header_read_timeout(None::<Duration>).max_headers(fields).max_buf_size(bytes);
    builder
}

/// HTTP/2.
pub fn http2(limits: &Limits) -> http2::Builder<StreamExecutor> {
    let mut builder = http2::Builder::new(StreamExecutor);
    let (bytes, _) = limits.head_read();
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}
