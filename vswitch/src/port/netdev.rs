//! A device that exists already, by AF_PACKET.
