//! What bounds the server.

use std::time::Duration;

use crate::config::ServerConfig;

/// How the server answers and what it allows.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The job that `/video-delete-record/{id}` queues for.
    pub video_delete_record: Option<String>,
    /// Names by which the server may be called, in lower case.
    pub hosts: Vec<String>,
    /// Longest body of a request, in bytes.
    pub max_body: usize,
    /// How long the head of a request may take, and a connection may idle.
    pub header_timeout: Duration,
    /// How long a request may take after its head.
    pub request_timeout: Duration,
    /// Requests at a time; one more is answered 503.
    pub max_requests: usize,
    /// Connections at a time; more wait to be accepted.
    pub max_connections: usize,
    /// How long running requests may go on after the shutdown began.
    pub grace: Duration,
}

impl ServerOptions {
    /// How long a handler waits for a body or a sweep: less than a request may
    /// take, so that it can still say what it waited for.
    pub(super) fn patience(&self) -> Duration {
        self.request_timeout.mul_f64(0.9)
    }
}

impl From<&ServerConfig> for ServerOptions {
    fn from(config: &ServerConfig) -> Self {
        Self {
            video_delete_record: config.video_delete_record.as_ref().map(ToString::to_string),
            hosts: config.hosts.clone(),
            max_body: config.max_body,
            header_timeout: config.header_timeout,
            request_timeout: config.request_timeout,
            max_requests: config.max_requests,
            max_connections: config.max_connections,
            grace: config.grace,
        }
    }
}
