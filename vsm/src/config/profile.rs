//! Inheritance: from profiles and overrides to evaluated settings.
