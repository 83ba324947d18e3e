//! The source server: connection, slot, stream, feedback.
