"""Documents tell the truth: their commands, keys, names, links and tables are those of the code."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
import yaml
from packaging.requirements import Requirement
from typer.main import get_command

import otel_ir
from otel_ir.cli import app
from otel_ir.config import Config, load_config
from otel_ir.contain import build_adapters
from otel_ir.export import ACTION_ATTRIBUTES, ATTRIBUTES, INCIDENT_ATTRIBUTES
from otel_ir.export.changes import CONTAINMENT_CHANGED, INCIDENT_CHANGED, STEP_NAME
from otel_ir.export.records import COUNT
from otel_ir.model import EVENT_COLUMNS
from otel_ir.respond import load_policy
from otel_ir.sdk.answer import RESPONSE_ATTRIBUTES
from otel_ir.sigma import load_rules
from otel_ir.store.evidence import DATE
from otel_ir.telemetry import METRICS
from tests.demo.markdown import DOCUMENTS, PROJECT, Block, between, blocks, inline, prose, table
from tests.test_architecture import COMPOSERS, DATA, HELPERS, PACKAGE, STAGES

BLOCKS = [block for path in DOCUMENTS for block in blocks(path)]
METADATA = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
ARCHITECTURE = PROJECT / "docs" / "architecture.md"


def _where(block: Block) -> str:
    return f"{block.path.relative_to(PROJECT)}:{block.line}"


# Commands


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in ("bash", "sh")], ids=_where)
def test_commands_of_code_blocks_exist(block: Block) -> None:
    for line in block.commands:
        words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=.*", word)]
        if words and words[0] != "export":
            _check(words)


def _check(words: list[str]) -> None:
    program, *rest = words
    if program == "otel-ir":
        _parse(rest)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert next(word for word in rest if "=" not in word) in targets
    elif program == "pip":
        assert rest[0] == "install"
        assert set(re.findall(r"\[(\w+)\]", " ".join(rest))) <= METADATA["project"]["optional-dependencies"].keys()
    elif program == "python":
        assert _python_runs(rest), rest
    elif program == ".ci/run":
        assert (PROJECT / program).exists()
    else:
        # Programs of others. What they are given is tested where they can be had (tests/real).
        assert program in {"otelcol", "curl"}, f"nothing checks {program!r}"


def _python_runs(words: list[str]) -> bool:
    """A module of ours, or a file that a document shows."""
    if words[0] == "-m":
        module = PROJECT / words[1].replace(".", "/")
        return module.is_dir() or module.with_suffix(".py").is_file()
    return words[0] in {block.file for block in BLOCKS}


def _parse(words: list[str]) -> None:
    """Raises what the command line would say to these words; runs nothing."""
    command: Any = get_command(app)
    context = command.make_context("otel-ir", list(words))
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, list(words), parent=context)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_commands_and_options_in_prose_exist(path: Path) -> None:
    for code in inline(path):
        program, *words = code.split(" ")
        if program != "otel-ir" or not words:
            continue
        command: Any = get_command(app)
        while words and hasattr(command, "commands"):
            if words[0].startswith("-"):
                break
            assert words[0] in command.commands, f"{code}: no such command"
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in words if word.startswith("-")} <= known, code


# Configuration


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.file in ("otel-ir.yaml", "response.yaml")], ids=_where)
def test_configuration_in_documents_is_accepted(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / block.file
    file.write_text(block.text, encoding="utf-8")
    if block.file == "otel-ir.yaml":
        load_config(file)
        return
    monkeypatch.setenv("OTEL_IR_WEBHOOK_SECRET", "whsec_" + "c2VjcmV0" * 5)
    build_adapters(*load_policy(file))


def _keys(config: type[msgspec.Struct], prefix: str = "") -> dict[str, str]:
    """Every key of the configuration -> where it stands."""
    found = {}
    for field in msgspec.structs.fields(config):
        found[field.name] = f"{prefix}{field.name}"
        kinds = [field.type, *getattr(field.type, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                found |= _keys(kind, f"{prefix}{field.name}.")
    return found


def test_every_configuration_key_is_documented() -> None:
    codes = [code for path in DOCUMENTS for code in inline(path)] + [block.text for block in BLOCKS if block.language == "yaml"]
    documented = {word for code in codes for word in re.findall(r"\w+", code)}
    missing = [place for key, place in _keys(Config).items() if key not in documented]
    assert not missing


def test_the_collector_snippet_of_the_readme_is_the_tested_file() -> None:
    (block,) = [block for block in blocks(PROJECT / "README.md") if block.language == "yaml"]
    tested = re.sub(r"\$\{env:\w+:-([^}]*)\}", r"\1", (PROJECT / "collector-config" / "tee.yaml").read_text(encoding="utf-8"))
    assert _within(yaml.safe_load(block.text), yaml.safe_load(tested))


def _within(part: Any, whole: Any) -> bool:
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and _within(value, whole[key]) for key, value in part.items())
    return bool(part == whole)


# Names


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_our_names_in_documents_are_those_of_the_code(path: Path) -> None:
    told = {*ATTRIBUTES, *ACTION_ATTRIBUTES, *INCIDENT_ATTRIBUTES, COUNT, CONTAINMENT_CHANGED, INCIDENT_CHANGED, STEP_NAME}
    known = {*METRICS, *EVENT_COLUMNS, *RESPONSE_ATTRIBUTES, *told, DATE, "otel_ir.event.type", "otel_ir.journal"}
    for code in inline(path):
        name = re.match(r"(otel_ir\.[a-z_.]+)(?:[{ ]|$)", code)
        if name and name[1] not in known and not name[1].startswith("otel_ir.arguments."):
            assert _importable(name[1]), code


def _importable(name: str) -> bool:
    module, _, last = name.rpartition(".")
    try:
        return hasattr(importlib.import_module(module), last) or bool(importlib.import_module(name))
    except ImportError:
        return False


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not target.startswith(("http://", "https://", "#")):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_the_rules_in_the_readme_are_those_shipped() -> None:
    ruleset, errors = load_rules([PROJECT / "rules"])
    assert not errors
    shipped = {one.signal: one.severity for one in (*ruleset.correlations, *(rule for rule in ruleset.rules if rule.alerts))}
    told = {row[0].strip("`"): row[1] for row in table(between(PROJECT / "README.md", "rules"))}
    assert told == shipped


def test_the_readme_has_few_words_and_a_place_for_numbers() -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    words = table(text.partition("## Words")[2].partition("## ")[0])
    assert 1 <= len(words) <= 7
    assert "make bench" in between(PROJECT / "README.md", "bench")


# Structure


def test_the_architecture_page_is_the_tree() -> None:
    folders = [row[0].strip("`/") for row in table(between(ARCHITECTURE, "folders"))]
    assert folders == [stage for stage in STAGES if (PACKAGE / stage).is_dir()]
    (diagram, *_) = blocks(ARCHITECTURE)
    assert not [folder for folder in folders if not re.search(rf"\b{folder}\b", diagram.text)]
    others = {name for row in table(between(ARCHITECTURE, "others")) for name in re.findall(r"`([\w.]+)/?`", row[0])}
    there = {entry.name for entry in PACKAGE.iterdir()} - set(folders) - DATA - {"__init__.py", "__main__.py", "rules"}
    assert others == there
    assert {name.removesuffix(".py") for name in others} <= HELPERS | COMPOSERS


def test_every_library_has_its_reason() -> None:
    groups = [METADATA["project"]["dependencies"], *METADATA["project"]["optional-dependencies"].values()]
    libraries = {Requirement(text).name for group in groups for text in group} - {"otel_ir"}
    decisions = PROJECT / "docs" / "decisions"
    listed = table((decisions / "README.md").read_text(encoding="utf-8"))
    assert {name.strip() for _, names in listed for name in names.split(",")} == libraries
    assert {f"{re.findall(r'[(](.+)[)]', note)[0]}" for note, _ in listed} == {path.name for path in decisions.glob("*.md")} - {"README.md"}
    for note, names in listed:
        text = (decisions / re.findall(r"[(](.+)[)]", note)[0]).read_text(encoding="utf-8")
        assert not [name for name in names.split(",") if f"**{name.strip()}" not in text], note


def test_the_version_is_told_once() -> None:
    assert METADATA["project"].get("version", otel_ir.__version__) == otel_ir.__version__


def test_a_command_that_does_not_exist_would_be_found() -> None:
    usage_error = typer.BadParameter.__mro__[1]  # Typer brings a Click of its own, or uses the one that is installed
    with pytest.raises(usage_error):
        _parse(["serve", "--no-such-option"])
    with pytest.raises(usage_error):
        _parse(["no-such-command"])
