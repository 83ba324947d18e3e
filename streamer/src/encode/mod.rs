//! The event model's encoders.
