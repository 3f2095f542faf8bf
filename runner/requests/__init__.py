"""Requests: who answers a subject, which instance is asked, and what follows when it fails."""
