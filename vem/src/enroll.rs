//! From a join token to a certificate.
