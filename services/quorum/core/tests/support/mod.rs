//! A cluster of engines that exchange their messages, and the tables that drive it.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod cluster;
pub(crate) mod table;
