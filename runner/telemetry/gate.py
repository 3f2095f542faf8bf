"""The gate before the OpenTelemetry SDK: a message that is not sampled never reaches the SDK.

1. A message with a `traceparent` follows its sampled flag.
2. A message without one takes a token. There are 100 a second, so a quiet system is traced whole and a busy one stays fast.
3. Failures and retries of messages that were not sampled have 20 tokens a second of their own (`admit_late`).
4. An explicit OTEL_TRACES_SAMPLER is obeyed as it is. If its decision needs a trace id, the gate admits the message and the SDK
decides.
"""

from __future__ import annotations

from collections.abc import Callable

ROOTS_PER_SECOND = 100
LATE_PER_SECOND = 20
UNLIMITED = 1 << 62

# By the last hex digit of the flags: bit 0 is "sampled"; None: no hex digit, so no traceparent.
_SAMPLED = tuple(int(chr(c), 16) % 2 == 1 if chr(c) in "0123456789abcdef" else None for c in range(256))
# Without its first letter, so that one search finds `traceparent` and `Traceparent`.
_NAME = b"raceparent:"


class Gate:
    """Decides for each message whether it is traced; called by one thread only."""

    __slots__ = ("_late", "_refilled", "admit", "capped", "late_tokens", "tokens")

    admit: Callable[[bytes | None], bool]
    """Whether the message with this raw header block (None: no headers) is traced."""

    def __init__(self, sampler: str = "", *, traceparent: bool = True, enabled: bool = True) -> None:
        """`sampler` is empty or a name of OTEL_TRACES_SAMPLER; with `traceparent=False` parents are in other headers."""
        self.capped = not sampler
        self.tokens = ROOTS_PER_SECOND if self.capped else 0 if sampler.endswith("always_off") else UNLIMITED
        self.late_tokens = LATE_PER_SECOND if self.capped else 0
        self._refilled: float | None = None
        if not enabled or sampler == "always_off":
            self.admit = _never
            self.late_tokens = 0
        elif sampler in ("always_on", "traceidratio") or (sampler and not traceparent):
            self.admit = _always
        else:
            self.admit = self._by_parent if traceparent else self._by_token

    def refill(self, now: float) -> None:
        """Add the tokens earned until `now`, in seconds of a monotonic clock; called about every 100 ms."""
        if not self.capped:
            return
        if self._refilled is None:
            self._refilled = now
        # In whole steps of 50 ms, worth five tokens and one late token, so that no fraction is lost or counted twice.
        steps = int((now - self._refilled) * 20)
        if steps > 0:
            self._refilled += steps / 20
            self.tokens = min(ROOTS_PER_SECOND, self.tokens + steps * (ROOTS_PER_SECOND // 20))
            self.late_tokens = min(LATE_PER_SECOND, self.late_tokens + steps * (LATE_PER_SECOND // 20))

    def admit_late(self) -> bool:
        """Whether a failure, or a retry, of a message that was not sampled is traced after all."""
        if self.late_tokens > 0:
            self.late_tokens -= 1
            return True
        return False

    def _by_token(self, _header: bytes | None) -> bool:
        if self.tokens > 0:
            self.tokens -= 1
            return True
        return False

    def _by_parent(self, header: bytes | None) -> bool:
        if header is not None:
            at = header.find(_NAME)
            if at >= 0:
                # `\ntraceparent: 00-<32>-<16>-01`: looking at three bytes costs less than one slice.
                try:
                    usual = header[at + 64] == 45 and header[at - 2] == 10
                    sampled = _SAMPLED[header[at + 66]] if usual else _unusual(header, at)
                except IndexError:
                    sampled = _unusual(header, at)
                if sampled is not None:
                    return sampled
        if self.tokens > 0:
            self.tokens -= 1
            return True
        return False


def _unusual(header: bytes, at: int) -> bool | None:
    """Read a header without a space after its colon, skipping names that only end alike; None if there is none."""
    while at >= 0:
        if header[max(0, at - 2) : at].lower() == b"\nt":
            for dash in (at + 64, at + 63):
                if header[dash : dash + 1] == b"-" and len(header) > dash + 2:
                    return _SAMPLED[header[dash + 2]]
            return None  # malformed: the message counts as one without a traceparent
        at = header.find(_NAME, at + 1)
    return None


def _never(_header: bytes | None) -> bool:
    return False


def _always(_header: bytes | None) -> bool:
    return True
