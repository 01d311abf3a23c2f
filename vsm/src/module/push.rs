//! Prepare everywhere, then commit everywhere, or nowhere.
