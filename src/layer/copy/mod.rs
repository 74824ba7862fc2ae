//! COPY and ADD: selecting sources, and writing them into a layer.
