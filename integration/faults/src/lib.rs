//! Whole nodes under faults, and a judgement of everything that their clients saw.

pub mod linear;
