//! The running configuration.

/// The running configuration, as the administrator wrote it: inheritance unresolved.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Model {
    /// Name of the switch.
    pub hostname: String,
}
