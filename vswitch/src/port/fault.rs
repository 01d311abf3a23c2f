//! Another port behind a bad cable.
