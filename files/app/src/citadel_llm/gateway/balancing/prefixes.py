"""Which back end has seen which beginning of a prompt: hashes only, and a bounded number of them."""

from __future__ import annotations

from citadel_llm.schema.resilience import PrefixAffinity

ENTRY_BYTES = 232
"""Measured: a key, its place in the dictionary, and a tuple with one or two small numbers."""
_HOLDERS = 4


def blocks_of(prompt: bytes | memoryview, rules: PrefixAffinity, seed: str) -> tuple[int, ...]:
    """One number for each whole block of a prompt's beginning; equal numbers mean equal prompts up to there.

    They hold for this process only. `seed` keeps models apart.
    """
    size = rules.block_bytes
    whole = min(len(prompt) // size, rules.max_blocks)
    blocks = []
    chained = hash(seed)
    for start in range(0, whole * size, size):
        chained = hash((chained, bytes(prompt[start : start + size])))
        blocks.append(chained)
    return tuple(blocks)


class PrefixTable:
    """Block → serial numbers of the back ends that last had it. The least recently used is forgotten."""

    __slots__ = ("_entries", "_most", "evicted")

    def __init__(self, rules: PrefixAffinity) -> None:
        self._entries: dict[int, tuple[int, ...]] = {}
        self._most = min(rules.max_entries, rules.max_bytes // ENTRY_BYTES)
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def match(self, blocks: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The holders of each known block from the first one on; the last element is that of the longest
        match.
        """
        found = []
        entries = self._entries
        for block in blocks:
            holders = entries.get(block)
            if holders is None:
                break
            found.append(holders)
        return found

    def note(self, blocks: tuple[int, ...], serial: int) -> None:
        """A back end is given these blocks."""
        entries = self._entries
        # The first block is written last, so that a beginning outlives what follows it.
        for block in reversed(blocks):
            holders = entries.pop(block, ())
            if not holders or holders[0] != serial:
                holders = (serial, *(other for other in holders if other != serial))[:_HOLDERS]
            entries[block] = holders
        excess = len(entries) - self._most
        if excess > 0:
            for block in [block for block, _ in zip(entries, range(excess), strict=False)]:
                del entries[block]
            self.evicted += excess
