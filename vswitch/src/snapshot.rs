//! What the control plane publishes: a validated, compiled, immutable picture of the configuration.
