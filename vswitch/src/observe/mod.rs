//! What looks at frames and never touches them.
