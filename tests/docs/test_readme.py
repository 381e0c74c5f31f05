"""What the README says exists, and the README names what exists."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
import yaml

import serving.client
from jobs import refresh_catalog
from jobs.cli import app
from recsys import recommender
from recsys.config import load_config
from recsys.expressions.parsing import parse
from recsys.ingest.validate import validate_inputs
from recsys.workspace import WorkspaceConfig
from serving.app import OPERATIONS
from serving.schemas import Asking
from tests.docs.blocks import DOCUMENTS, KINDS, ROOT, Block, blocks, commands, inline_code, prose, read

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FOLDERS = ("recsys", "embeddings", "serving", "jobs", "tests", "requirements", "docs", ".ci")


def stages(docstring: str | None) -> list[str]:
    """The flow that a module's docstring draws: `a → b (with c) → (only sometimes) → d`, without what is optional."""
    line = next(line for line in (docstring or "").splitlines() if "→" in line)
    return [stage.split()[0] for stage in line.split("→") if not stage.strip().startswith("(")]


def leaves(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every verb of the command line by its words (a `Command` of the click that typer brings)."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return {path: command}
    below = {words: leaf for name, each in inner.items() for words, leaf in leaves(each, (*path, name)).items()}
    return {path: command, **below} if command.invoke_without_command else below


VERBS = leaves(typer.main.get_command(app))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_says_how_it_is_tested(document: str) -> None:
    silent = [block.where for block in blocks(document) if block.language != "text" and block.kind not in KINDS]
    assert not silent


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file(document: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", prose(document))
    broken = [link for link in links if "://" not in link and not (ROOT / link.partition("#")[0]).exists()]
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_named_is_there(document: str) -> None:
    names = [name for name in inline_code(document) if re.fullmatch(rf"(?:{'|'.join(FOLDERS)})/[\w./*-]+", name)]
    missing = [name for name in names if not any(ROOT.glob(name.rstrip("/")))]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_verb_and_option_named_exists(document: str) -> None:
    for words in commands(document, "recsys"):
        plain = [word for word in words if not word.startswith("-")]
        verb = next((tuple(plain[:n]) for n in (3, 2, 1) if tuple(plain[:n]) in VERBS), None)
        is_group = any(tuple(plain) == known[: len(plain)] for known in VERBS)
        assert verb is not None or is_group, f"{document} names `recsys {' '.join(words)}`"
        known_options = {option for each in VERBS[verb].params for option in each.opts} if verb else set()
        unknown = {word for word in words if word.startswith("-")} - known_options
        assert not unknown, f"{document}: `recsys {' '.join(words)}` has no {sorted(unknown)}"


def test_every_verb_is_named() -> None:
    text = read("README.md")
    assert not [words for words in VERBS if f"recsys {' '.join(words)}" not in text]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_and_variable_named_exists(document: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
    for target, *variables in filter(None, commands(document, "make")):
        bench = target.removeprefix("bench-")
        exists = target in targets or (bench != target and (ROOT / f"tests/benchmarks/{bench}.py").exists())
        assert exists, f"{document} names `make {target}`"
        missing = [each for each in variables if f"$({each.partition('=')[0]})" not in makefile]
        assert not missing, f"{document}: the Makefile reads no {missing}"


def test_every_container_command_names_a_service_and_a_verb() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    named = commands("README.md", "docker compose")
    assert named
    for words in named:
        assert words[0] in ("run", "up")
        if words[0] == "run":
            service, *verb = [word for word in words[1:] if not word.startswith("-")]
            assert service in services
            assert tuple(verb) in VERBS


def test_every_route_and_every_field_of_a_request_for_items_is_named() -> None:
    text = read("README.md")
    routes = [f"{operation.method} {operation.path}" for operation in OPERATIONS]
    assert not [route for route in routes if f"`{route}" not in text]
    assert not [name for name in Asking.__struct_fields__ if f"`{name}`" not in text]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_setting_named_exists(document: str) -> None:
    for code in inline_code(document):
        named = re.match(r"\[([a-z_.]+)\](?: (\w+))?", code)
        if named is None or named[1].startswith("tool."):
            continue
        config: type = WorkspaceConfig
        for part in [*named[1].split("."), *filter(None, [named[2]])]:
            fields = getattr(config, "model_fields", {})
            assert part in fields, f"{document}: there is no setting {code}"
            config = fields[part].annotation


def test_the_pictures_stages_are_those_of_the_code() -> None:
    svg = read("docs/flows.svg")
    assert len(svg) < 16_000
    drawn = {"".join(text.itertext()) for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")}
    alternative = re.search(r"!\[(.+?)\]\(docs/flows\.svg\)", read("README.md"), re.DOTALL)
    assert alternative
    for flow in (stages(recommender.__doc__), stages(refresh_catalog.__doc__)):
        assert set(flow) <= drawn
        assert ", ".join(flow) in " ".join(alternative[1].split())


def test_the_architecture_draws_the_layers_that_are_held() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    written = re.search(r'containers = \["recsys"\]\nexhaustive = true\nlayers = \[(.+?)\n\]', pyproject, re.DOTALL)
    assert written
    held = [set(re.findall(r"\w+", layer)) for layer in re.findall(r'"([^"]+)"', written[1])]
    there = {path.stem for path in (ROOT / "recsys").iterdir()}
    text = next(block.text for block in blocks("ARCHITECTURE.md") if block.text.startswith("workspace"))
    drawn = [set(re.findall(r"\w+", line)) for line in text.splitlines()]
    assert drawn == [layer & there for layer in held if layer & there]


@pytest.mark.parametrize("block", blocks(kind="config"), ids=lambda block: block.where)
def test_every_configuration_shown_is_accepted(block: Block, tmp_path: Path) -> None:
    (tmp_path / "recsys.toml").write_text(block.text, encoding="utf-8")
    load_config(tmp_path / "recsys.toml", WorkspaceConfig)


@pytest.mark.parametrize("block", blocks(kind="json"), ids=lambda block: block.where)
def test_every_reply_shown_has_the_fields_of_the_real_one(block: Block) -> None:
    struct = getattr(serving.client, block.mark[1])
    shown = json.loads(block.text)
    assert json.loads(msgspec.json.encode(msgspec.json.decode(block.text, type=struct))) == shown


def test_the_companys_export_is_read_with_the_mapping_shown(tmp_path: Path) -> None:
    (config,) = (block for block in blocks(kind="config") if block.mark[1:] == ("export",))
    (export,) = (block for block in blocks(kind="file") if block.mark[1].startswith("export/"))
    (tmp_path / "recsys.toml").write_text(config.text, encoding="utf-8")
    data = load_config(tmp_path / "recsys.toml", WorkspaceConfig).data
    (tmp_path / Path(export.mark[1]).name).write_text(export.text, encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(export.text)))
    items = [{"item_id": sku, "name": f"Thing {sku}", "release_year": 1999} for sku in {row["sku"] for row in rows}]
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)) + "\n", encoding="utf-8")
    validated = validate_inputs(tmp_path, data, now=NOW)
    assert (validated.interactions.num_rows, validated.quarantine.num_rows) == (len(rows), 0)
    assert validated.items["title"].to_pylist() == [item["name"] for item in items]
    assert validated.items["attributes"].to_pylist() == ['{"year":1999}'] * len(items)
    assert validated.interactions["context"].to_pylist() == ['{"device":"phone"}'] * len(rows)


@pytest.mark.parametrize(("place", "word"), [("figures", "NDCG@10"), ("serving figures", "make bench-serving")])
def test_figures_have_their_place(place: str, word: str) -> None:
    table = re.search(rf"<!-- {place} -->\n(.+?)<!-- /{place} -->", read("README.md"), re.DOTALL)
    assert table
    assert word in table[1]


def test_every_filter_shown_is_one() -> None:
    (table,) = re.findall(r"\n\| test \|.+?\n\n", read("README.md"), re.DOTALL)
    shown = [code for row in table.strip().split("\n")[2:] for code in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(shown) >= 6
    for text in shown:
        parse(text)


def test_programs_that_only_the_help_blocks_name_come_with_the_installation() -> None:
    for block in blocks(kind="help"):
        for line in block.text.splitlines():
            if line.startswith("hf "):
                assert shutil.which("hf", path=str(ROOT / ".venv" / "bin"))
