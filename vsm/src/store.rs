//! Files of the supervisor, written whole or not at all.
