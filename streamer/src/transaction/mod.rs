//! Streamed and prepared transactions are put together before they are decoded.
