"""A trace in the terminal, and the spans of servers."""
