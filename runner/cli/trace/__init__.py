"""`runner trace`: shows a trace in the terminal, and makes spans of what servers report."""
