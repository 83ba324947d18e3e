//! The way from the socket to the sink.
