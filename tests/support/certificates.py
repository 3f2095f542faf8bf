"""A certificate authority for one test, and the files that a server and its clients need."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import trustme


class Certificates:
    """Writes `ca.pem`, `server.pem`, `client.pem` (each leaf with its chain) and their keys under `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        self.ca = directory / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        self.server, self.server_key = self._issue(
            directory, "server", authority.issue_cert("127.0.0.1", "localhost")
        )
        self.client, self.client_key = self._issue(
            directory, "client", authority.issue_cert("client@example.test")
        )

    def config(self, *, verify: bool = False, first: bool = False) -> str:
        """The `tls` block for a `NatsServer`: `verify` asks clients for a certificate, `first` skips the plain INFO."""
        return (
            f"tls {{ cert_file: {json.dumps(str(self.server))}, key_file: {json.dumps(str(self.server_key))}, "
            f"ca_file: {json.dumps(str(self.ca))}, verify: {str(verify).lower()}, "
            f"handshake_first: {str(first).lower()} }}"
        )

    def context(self) -> ssl.SSLContext:
        """What a client that trusts `ca.pem` connects with."""
        return ssl.create_default_context(cafile=str(self.ca))

    @staticmethod
    def _issue(directory: Path, name: str, leaf: trustme.LeafCert) -> tuple[Path, Path]:
        certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
        for place, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(certificate, append=place > 0)
        leaf.private_key_pem.write_to_path(key)
        return certificate, key
