"""One message's way: queue, call, outputs, settle."""
