//! Behaviour of the program.
