//! Network clients.
