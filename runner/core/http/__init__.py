"""HTTP as values: which route a request takes, what is read from manifests, who may ask. No I/O, loop, clock or luck."""
