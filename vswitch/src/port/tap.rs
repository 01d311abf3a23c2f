//! A tap that the VEM opens.
