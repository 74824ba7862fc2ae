//! The `rpub` program.

fn main() {}
