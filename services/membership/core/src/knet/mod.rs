//! Links between nodes, as kronosnet has them.

pub mod crypto;
pub mod fragments;
pub mod packet;
pub mod slots;
pub mod window;
