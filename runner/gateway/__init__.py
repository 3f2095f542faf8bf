"""The HTTP edge: it takes connections, passes requests to functions and streams, and sends responses."""
