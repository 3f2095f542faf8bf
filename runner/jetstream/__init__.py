"""NATS JetStream: the only importer of nats-py."""
