"""The process: start everything, watch over it, drain, stop."""
