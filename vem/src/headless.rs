//! The last good configuration and the attachments, on disk.
