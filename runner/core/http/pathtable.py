"""The paths of the routes of one host: exact ones in a dictionary, patterns and prefixes in trees of segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from runner.core.http import path
from runner.core.http.compiledroute import CompiledRoute
from runner.core.http.route import Pattern, Prefix


class _Node(Struct):
    """A tree's node: the patterns or prefixes that share the segments up to here."""

    literals: dict[str, _Node] = {}
    named: _Node | None = None
    ends: tuple[CompiledRoute, ...] = ()
    """Routes whose path ends here, in order of precedence."""


class PathTable:
    """Finds the routes that a path may take, in order of precedence."""

    __slots__ = ("_depth", "_exact", "_patterns", "_prefixes", "entries")

    def __init__(self, entries: Iterable[CompiledRoute]) -> None:
        self.entries = sorted(entries, key=lambda entry: entry.rank)
        self._exact: dict[str, tuple[CompiledRoute, ...]] = {}
        self._patterns = _Node()
        self._prefixes = _Node()
        self._depth = 0
        for entry in self.entries:
            self._add(entry)

    def candidates(self, asked: str) -> Iterator[CompiledRoute]:
        """The routes of a path in canonical form: exact ones, then patterns, then prefixes from the longest."""
        exact = self._exact.get(asked)
        if exact:
            yield from exact
        if not self._depth:
            yield from self._prefixes.ends
            return
        # A path may have thousands of segments: only as many are cut as routes have at most.
        segments = asked[1:].split("/", self._depth)
        if self._patterns.literals or self._patterns.named:
            yield from _walk(self._patterns, segments, 0)
        node: _Node | None = self._prefixes
        found = [self._prefixes]
        for segment in segments:
            assert node is not None
            node = node.literals.get(segment)
            if node is None:
                break
            found.append(node)
        for each in reversed(found):
            yield from each.ends

    def _add(self, entry: CompiledRoute) -> None:
        kind = entry.route.path
        canonical = path.declared(kind.path)
        if isinstance(kind, Prefix):
            node = self._prefixes
            canonical = canonical.rstrip("/")
        elif isinstance(kind, Pattern) and path.names(canonical):
            node = self._patterns
        else:
            self._exact[canonical] = (*self._exact.get(canonical, ()), entry)
            return
        segments = canonical[1:].split("/") if canonical else []
        self._depth = max(self._depth, len(segments))
        for segment in segments:
            node = _below(node, segment, named=isinstance(kind, Pattern))
        node.ends = (*node.ends, entry)


def _below(node: _Node, segment: str, *, named: bool) -> _Node:
    if named and path.name_of(segment) is not None:
        if node.named is None:
            node.named = _Node()
        return node.named
    return node.literals.setdefault(segment, _Node())


def _walk(node: _Node, segments: list[str], depth: int) -> Sequence[CompiledRoute]:
    if depth == len(segments):
        return node.ends
    segment = segments[depth]
    below, named = node.literals.get(segment), node.named if segment else None
    if below is None:
        return _walk(named, segments, depth + 1) if named is not None else ()
    if named is None:
        return _walk(below, segments, depth + 1)
    return (*_walk(below, segments, depth + 1), *_walk(named, segments, depth + 1))
