"""What a worker tells the directory about its prefixes: the net change since it last told."""

from dataclasses import dataclass

from common.core.ids import PrefixHash


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipChanges:
    """Apply `withdrawn` first. No hash is in both. A run holds consecutive hashes of one chain, parents first."""

    published: tuple[tuple[PrefixHash, ...], ...] = ()
    withdrawn: tuple[PrefixHash, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.published or self.withdrawn)


class OwnershipLog:
    """Collects changes between two drains. Writer: the page cache. Bounded by the number of pages.

    What comes and goes between two drains is never told; what goes and comes back stays told.
    """

    def __init__(self) -> None:
        self._published: dict[PrefixHash, PrefixHash | None] = {}
        self._withdrawn: dict[PrefixHash, None] = {}

    def publish(self, prefix: PrefixHash, parent: PrefixHash | None) -> None:
        """This worker holds `prefix` now. `parent` is the hash before it, None for a first page or unknown."""
        if prefix in self._withdrawn:
            del self._withdrawn[prefix]
        else:
            self._published[prefix] = parent

    def withdraw(self, prefix: PrefixHash) -> None:
        """This worker is about to lose `prefix`."""
        if prefix in self._published:
            del self._published[prefix]
        else:
            self._withdrawn[prefix] = None

    def drain(self) -> OwnershipChanges:
        """The net change since the last drain."""
        runs: list[list[PrefixHash]] = []
        open_runs: dict[PrefixHash, list[PrefixHash]] = {}  # by last hash
        for prefix, parent in self._published.items():
            run = open_runs.pop(parent, None) if parent is not None else None
            if run is None:
                run = []
                runs.append(run)
            run.append(prefix)
            open_runs[prefix] = run
        changes = OwnershipChanges(published=tuple(tuple(run) for run in runs), withdrawn=tuple(self._withdrawn))
        self._published.clear()
        self._withdrawn.clear()
        return changes
