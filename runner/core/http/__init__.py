"""HTTP as values: the route of a request, the contents of manifests, who may ask. No I/O, loop, clock or random numbers."""
