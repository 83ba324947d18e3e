//! Frames of the native format become events.
