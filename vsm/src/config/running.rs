//! The running configuration as CLI text.
