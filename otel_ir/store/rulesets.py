"""The rule sets that were ever active, by digest: a replay after a restart needs the rules as they were at that journal record."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from otel_ir.errors import StorageError
from otel_ir.sigma import load_rules
from otel_ir.sigma.ruleset import RuleSet
from otel_ir.store.files import sync


class RuleSetArchive:
    """One folder per rule set, named by its digest, with copies of its files."""

    def __init__(self, directory: Path) -> None:
        """Creates the directory. Raises ``StorageError``."""
        self._directory = directory
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{directory}: {error.strerror}") from error

    def keep(self, ruleset: RuleSet, sources: Sequence[Path]) -> None:
        """Copies the rule files under ``sources`` (files or folders) of which the rule set was loaded, durably. Raises ``StorageError``."""
        place = self._directory / ruleset.digest
        if place.is_dir():
            return
        draft = place.with_suffix(".tmp")
        try:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            for number, file in enumerate(rule_files(sources)):
                copy = draft / f"{number:05d}-{file.name}"
                copy.write_bytes(file.read_bytes())
                sync(copy)
            sync(draft)
            draft.replace(place)
            sync(self._directory)
        except OSError as error:
            raise StorageError(f"{place}: the rule set was not kept: {error}") from error
        self.find(ruleset.digest)

    def find(self, digest: str) -> RuleSet:
        """The rule set. Raises ``StorageError`` when it is not here, or its files are no longer what they were."""
        place = self._directory / digest
        if not place.is_dir():
            raise StorageError(f"{self._directory}: the rule set {digest} is not here, and the journal still needs it")
        ruleset, errors = load_rules([place])
        if ruleset.digest != digest:
            reason = str(errors[0]) if errors else f"its digest is {ruleset.digest} now"
            raise StorageError(f"{place}: the rule set changed: {reason}")
        return ruleset


def rule_files(sources: Sequence[Path]) -> list[Path]:
    """The YAML files under these files and folders, sorted."""
    found: list[Path] = []
    for source in sources:
        found += sorted([*source.rglob("*.yml"), *source.rglob("*.yaml")]) if source.is_dir() else [source]
    return found
