"""Every exception otel_ir raises on purpose.

    OtelIrError
    ├── ConfigError          what an operator wrote cannot be used (exit status 1)
    ├── RuleError            a rule file cannot be used; carries file, line, column and a hint
    ├── InputError           bytes or a file from outside cannot be read; permanent, never retried
    ├── Overloaded           try again later; the receivers map it to UNAVAILABLE / 429 / 503
    ├── StorageError         the journal, a checkpoint or a store cannot be trusted or written
    │   └── IllegalStep      a step that the life of an action does not have; nothing was changed
    └── Refused              in an agent's process: the guard stopped a contained tool call; also a PermissionError

Two kinds of failure matter to a caller: ``InputError`` is permanent, ``Overloaded`` is retryable. Everything else is for the operator.
"""

from __future__ import annotations


class OtelIrError(Exception):
    """Base of the tree; never raised itself."""


class ConfigError(OtelIrError):
    """What an operator wrote (file, flag, environment) cannot be used."""


class RuleError(OtelIrError):
    """A rule file cannot be used.

    ``str()`` gives ``file:line:column: what: hint`` with the parts that are known.
    """

    def __init__(self, what: str, *, path: str = "", line: int = 0, column: int = 0, hint: str = "") -> None:
        self.what, self.path, self.line, self.column, self.hint = what, path, line, column, hint
        super().__init__(what)

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.path, self.line, self.column) if part)
        return ": ".join(part for part in (place, self.what, self.hint) if part)


class InputError(OtelIrError):
    """Bytes or a file from outside cannot be read. Permanent: the same bytes will fail again."""


class Overloaded(OtelIrError):
    """A bound was reached; nothing was taken. ``retry_after`` is in seconds."""

    def __init__(self, what: str, *, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(what)


class StorageError(OtelIrError):
    """The journal, a checkpoint or a store is damaged, of another version, or cannot be written."""


class IllegalStep(StorageError):
    """A step that ``model_lifecycle.TRANSITIONS`` does not have: somebody else was faster, or the caller is wrong. Nothing was changed."""


class Refused(OtelIrError, PermissionError):
    """A contained tool call was stopped before it ran. ``str()`` says why, in words for the model or the person who asked for it."""

    def __init__(self, message: str, *, action_id: str = "") -> None:
        self.action_id = action_id
        super().__init__(message)
