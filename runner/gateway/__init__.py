"""The HTTP edge: connections, requests on their way to functions and streams, responses."""
