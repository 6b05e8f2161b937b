//! Links as a whole: recorded packets of kronosnet, and nodes in memory with a clock of their own.

#![allow(clippy::unwrap_used)]

mod captures;
mod hostile;
mod mtu;
mod mutations;
mod network;
mod pcap;
mod states;
mod traffic;
