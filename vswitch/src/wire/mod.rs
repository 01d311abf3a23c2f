//! Header views of the road: offsets and accessors, one file per protocol; no state, no unsafe.
