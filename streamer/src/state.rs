//! Durable state, bound to the source it belongs to.
