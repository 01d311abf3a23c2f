//! Flow export: records in, datagrams out.
