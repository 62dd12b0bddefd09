"""Values that can be followed from text to text: addresses, hosts, account numbers, paths, ids, quoted strings; each in one normal form.

Two texts hold the same value when ``values`` gives the same ``Value`` for both. The input is hostile: expressions run on RE2, so time
is linear in the text whatever it holds; how much is read, taken and descended into is bounded, and what was cut is told.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import re2  # type: ignore[import-untyped]

MAX_CHARACTERS = 8 * 1024 * 1024
"""Of one text that are read."""
MAX_VALUES = 1_000
"""Of one kind taken from one text: the first ones."""
MAX_LOOKED = 20 * MAX_VALUES
"""Places of one kind that are looked at, also those where it is none after all."""
MAX_LENGTH = 2_048
"""Characters of one value; what is longer is no address, and is told apart as text (``plain``)."""
MAX_LEAVES = 2_000
MAX_DEPTH = 64
MAX_NAME = 128
"""Characters of the path of a leaf."""


# Not the standard library's: on deep nesting it takes 13 seconds for 5 MB to find out that it is too deep.
_DECODER = msgspec.json.Decoder(float_hook=str)


class Value(NamedTuple):
    """``kind``: a key of ``KINDS``; ``text``: the value in its normal form."""

    kind: str
    text: str

    @property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256: enough to tell values apart without keeping them."""
        return hashlib.sha256(f"{self.kind}\0{self.text}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Values(NamedTuple):
    """What a text holds, by kind and in order of first occurrence; ``cut``: there may be more."""

    found: tuple[Value, ...]
    cut: bool


class Leaf(NamedTuple):
    """One string or number inside arguments: where (``to``, ``items[0].url``; empty: the whole), and its text."""

    path: str
    text: str


class Leaves(NamedTuple):
    """Leaves in document order; ``cut``: there are more, or deeper ones."""

    found: tuple[Leaf, ...]
    cut: bool


def plain(text: str) -> str:
    """A text in the form in which texts are compared: case and white space do not count."""
    return " ".join(text[:MAX_CHARACTERS].split()).casefold()


def values(text: str, kinds: tuple[str, ...] = ()) -> Values:
    """Every value in ``text``; of ``kinds`` only, where given."""
    cut = len(text) > MAX_CHARACTERS
    content = text[:MAX_CHARACTERS].encode("utf-8", "replace")
    found: dict[Value, None] = {}
    for kind in kinds or KINDS:
        taken = 0
        for looked, match in enumerate(KINDS[kind].expression.finditer(content)):
            if taken >= MAX_VALUES or looked >= MAX_LOOKED:
                cut = True
                break
            raw = _group(match)
            normal = KINDS[kind].normal(raw) if len(raw) <= MAX_LENGTH else None
            if normal:
                taken += 1
                found[Value(kind, normal)] = None
                if kind in ("url", "email"):
                    found.update(_host_of(kind, normal))
    return Values(tuple(found), cut)


def leaves(text: str) -> Leaves:
    """The leaves of arguments or of a result: of the JSON it is, else the text itself as one leaf."""
    try:
        tree = _DECODER.decode(text[:MAX_CHARACTERS].encode())
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Leaves((Leaf("", text[:MAX_CHARACTERS]),), len(text) > MAX_CHARACTERS)
    found: list[Leaf] = []
    cut = False
    waiting: list[tuple[str, Any, int]] = [("", tree, 0)]
    while waiting:
        path, node, depth = waiting.pop()
        if not isinstance(node, dict | list):
            if node is not None and not isinstance(node, bool):
                found.append(Leaf(path, node if isinstance(node, str) else str(node)))
        elif depth >= MAX_DEPTH:
            cut = True
        else:
            children = [(name[:MAX_NAME], child, depth + 1) for name, child in _children(path, node)]
            waiting += reversed(children)
        if len(found) >= MAX_LEAVES and waiting:
            return Leaves(tuple(found), True)
    return Leaves(tuple(found), cut)


def mask_secrets(text: str) -> str:
    """``text`` with what looks like a secret replaced by its first characters and a fingerprint."""
    content = text.encode("utf-8", "replace")
    parts: list[bytes] = []
    end = 0
    for match in KINDS["secret"].expression.finditer(content):
        group = next((number for number in range(1, match.re.groups + 1) if match.start(number) >= 0), 0)
        start, stop = match.start(group), match.end(group)
        digest = hashlib.sha256(content[start:stop]).hexdigest()[:8]
        parts += [content[end:start], content[start : start + 3], f"…(secret {digest})".encode()]
        end = stop
    return b"".join([*parts, content[end:]]).decode("utf-8", "replace")


def _children(path: str, node: dict[str, Any] | list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        # A tree of which only the first leaves are taken needs no more children than that.
        for _, (name, child) in zip(range(MAX_LEAVES + 1), node.items(), strict=False):
            yield f"{path}.{name}" if path else str(name), child
    else:
        for place, child in enumerate(node[: MAX_LEAVES + 1]):
            yield f"{path}[{place}]", child


def _group(match: Any) -> str:
    """The first group that took part, else the whole match."""
    whole: bytes = next((group for group in match.groups() if group is not None), match.group())
    return whole.decode("utf-8", "replace")


def _host_of(kind: str, normal: str) -> dict[Value, None]:
    host = normal.rpartition("@")[2] if kind == "email" else urlsplit(normal).hostname or ""
    if not host:
        return {}
    return {Value("ip" if _ip(host) else "host", _ip(host) or host): None}


def _lower(raw: str) -> str | None:
    return raw.lower().strip(".") or None


def _url(raw: str) -> str | None:
    trimmed = raw.rstrip(".,;:!?)]}'\"*")
    try:
        parts = urlsplit(trimmed)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not host:
        return None
    usual = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}.get(parts.scheme)
    place = f"[{host}]" if ":" in host else host
    place = place if port in (None, usual) else f"{place}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}{query}"


_FILES = frozenset({
    "avif", "bak", "bat", "bin", "bmp", "c", "cfg", "cmd", "conf", "cpp", "css", "csv", "dat", "db", "dll", "doc", "docx", "env",
    "exe", "gif", "go", "gz", "h", "htm", "html", "ico", "ini", "ipynb", "jar", "java", "jpeg", "jpg", "js", "json", "jsonl", "jsx",
    "key", "lock", "log", "lua", "md", "mov", "mp3", "mp4", "odt", "parquet", "pdf", "pem", "php", "png", "ppt", "pptx", "ps1", "py",
    "rb", "rs", "rtf", "sh", "sql", "sqlite", "svg", "swift", "tar", "tgz", "toml", "ts", "tsv", "tsx", "txt", "wasm", "wav", "webp",
    "xls", "xlsx", "xml", "yaml", "yml", "zip",
})  # fmt: skip
"""Ends of names that are files, not hosts. Some are top-level domains too (``md``, ``sh``, ``zip``): with a scheme they are hosts."""


def _host(raw: str) -> str | None:
    host = raw.lower().strip(".")
    return None if host.rpartition(".")[2] in _FILES else host


def _ip(raw: str) -> str | None:
    try:
        return ipaddress.ip_address(raw).compressed
    except ValueError:
        return None


def _account(raw: str) -> str | None:
    compact = "".join(char for char in raw if char.isalnum()).upper()
    return compact if 8 <= len(compact) <= 34 and sum(char.isdigit() for char in compact) >= 8 else None


def _path(raw: str) -> str | None:
    return raw.rstrip("/\\.,") or None


def _token(raw: str) -> str | None:
    mixed = any(char.isdigit() for char in raw) and any(char.isalpha() for char in raw)
    return raw.lower() if mixed else None


def _quoted(raw: str) -> str | None:
    text = plain(raw)
    return text if 6 <= len(text) <= 200 else None


class Kind(NamedTuple):
    """How a kind is found, and its normal form (``None``: it is not one after all)."""

    expression: Any
    normal: Callable[[str], str | None]


def _kind(expression: str, normal: Callable[[str], str | None]) -> Kind:
    options = re2.Options()
    options.log_errors = False
    return Kind(re2.compile(expression.encode(), options), normal)


_BEFORE = r"""(?:^|[\s"'(\[{=,;<>`|])"""

KINDS: dict[str, Kind] = {
    "url": _kind(r"""(?i)\b(?:https?|ftps?|sftp|wss?|s3|gs|ssh|git|ldaps?|smb)://[^\s"'<>\\^`{|}]+""", _url),
    "email": _kind(r"(?i)[a-z0-9_%+-](?:[a-z0-9._%+-]*)@[a-z0-9-]+(?:\.[a-z0-9-]+)+", _lower),
    "host": _kind(r"(?i)\b(?:[a-z0-9_-]+\.)+(?:[a-z]{2,24}|xn--[a-z0-9-]+)\b", _host),
    "ip": _kind(
        r"\b[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\b|(?i)[0-9a-f]{1,4}(?::[0-9a-f]{0,4}){2,7}",
        _ip,
    ),
    "account": _kind(r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{2,4}){2,8}\b|\b[0-9](?:[ -]?[0-9]){7,33}\b", _account),
    "path": _kind(_BEFORE + r"((?:~|\.\.?)?(?:/[\w.@+-]+)+/?|[A-Za-z]:\\[^\s\"'<>|*?]+)", _path),
    "id": _kind(r"(?i)\b[a-z]{2,12}[-#_][0-9]{2,12}\b|\b[a-z0-9_-]{16,512}\b", _token),
    "secret": _kind(
        r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{16,}|xox[abpr]-[A-Za-z0-9-]{10,}"
        r"|eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)"
        r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[A-Za-z0-9+/=\s\\]*"
        r"""|(?i)\b(?:password|passwd|pwd|secret|token|api[_-]?key)\b\\?["']?\s*[:=]\s*\\?["']?([^\s"'\\,;}&]{6,})""",
        lambda raw: raw,
    ),
    "number": _kind(r"\b[0-9]{4,7}\b", lambda raw: raw),
    "quoted": _kind(r"""“([^”\n]+)”|«([^»\n]+)»|"([^"\n]+)"|`([^`\n]+)`|(?:^|[\s(=,])'([^'\n]+)'""", _quoted),
}
"""Kinds of values, the most telling first."""

DESTINATIONS = ("url", "email", "host", "ip", "account")
"""Kinds that say where something goes."""
WEAK = ("number", "quoted")
"""Kinds that two texts may share by chance."""

KIND_WORDS: dict[str, str] = {
    "url": "the address",
    "email": "the address",
    "host": "the host",
    "ip": "the address",
    "account": "the number",
    "path": "the path",
    "id": "the id",
    "secret": "a secret",
    "number": "the number",
    "quoted": "the words",
    "text": "the words",
}
"""Kind -> what a value of it is called; ``text`` is a whole argument, compared by ``plain``."""
