//! `vem.toml`: what an agent must know before it has heard from its supervisor.
