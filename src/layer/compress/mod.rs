//! Compression of layers, and its reverse.
