//! One pass over a frame: what it is, where its headers are, its flow key, or why it is a lie.
