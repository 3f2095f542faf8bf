"""Requests: which instances answer a subject, which of them is asked, and what follows when an instance fails."""
