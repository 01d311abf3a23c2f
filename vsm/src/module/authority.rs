//! The domain's certificate authority and its join tokens.
