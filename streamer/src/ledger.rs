//! The ack ledger: the only source of the flush LSN.
