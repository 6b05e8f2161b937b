//! Under construction in this tree.
