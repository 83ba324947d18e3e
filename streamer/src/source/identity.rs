//! Tables whose old rows can't be named.
