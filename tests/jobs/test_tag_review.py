"""Review: questions go out, answers come back."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from embeddings.tagging.human import HUMAN_FILE, read_words
from jobs.embed import embed_job
from jobs.tag_review import export_job, import_job
from jobs.validate import validate_job
from recsys.errors import InputError, MissingArtifact
from recsys.workspace import Workspace
from tests.embeddings.tagging.tag_rows import said
from tests.worlds.tag_runs import write_run
from tests.worlds.workspaces import NOW, add_item, write_workspace

HOSTILE = '=1+1 <script>alert("1")</script>'


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """61 items; a head that is sure of some and doubts others, and a second one that contradicts it once."""
    workspace, world = write_workspace(tmp_path_factory.mktemp("tagged"))
    add_item(workspace, "evil", title=HOSTILE, image=f"images/{world.items[4].item_id}.png")
    validate_job(workspace, now=NOW)
    embed_job(workspace)
    ids = [each.item_id for each in world.items]
    rows = [said(item_id, "red", "yes", 0.99) for item_id in ids[:20]]
    rows += [said(item_id, "round", "unsure", 0.4 + at / 1000) for at, item_id in enumerate(ids[20:30])]
    rows += [said("evil", "red", "unsure", 0.45)]
    judged = dict.fromkeys([*ids, "evil"], "judged") | {ids[59]: "refused"}
    write_run(workspace, "image", rows, judged, ["red", "round"])
    seen_too = [said(item_id, "red", "yes", 0.95, head="text") for item_id in (*ids[:20], ids[40])]
    write_run(workspace, "text", seen_too, judged | {"evil": "absent"}, ["red"])
    return workspace


def exported(workspace: Workspace, folder: Path, **options: Any) -> list[dict[str, str]]:
    export_job(workspace, head="image", n=12, now=NOW, out=folder / "questions.csv", **options)
    with (folder / "questions.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_what_is_doubtful_and_what_heads_disagree_about_is_asked(tagged: Workspace, tmp_path: Path) -> None:
    rows = exported(tagged, tmp_path, random_share=0.0)
    asked = {(row["item_id"], row["tag"]) for row in rows}
    assert len(rows) == len(asked) == 12
    assert {("evil", "red"), ("item-0040", "red")} <= asked
    assert sum(tag == "round" for _, tag in asked) == 6
    assert {row["verdict"] for row in rows} == {""}
    assert "heads differ by 0.95" in next(row["why"] for row in rows if row["item_id"] == "item-0040")


def test_a_share_is_drawn_at_random_with_its_propensity(tagged: Workspace, tmp_path: Path) -> None:
    rows = exported(tagged, tmp_path, random_share=0.5, seed=3)
    drawn = [row for row in rows if row["why"] == "drawn at random"]
    assert len(drawn) == 6
    # 60 judged items times 2 tags, of which 6 are chosen for what they are
    assert {float(row["propensity"]) for row in drawn} == {6 / (60 * 2 - 6)}
    assert all(row["item_id"] != "item-0059" for row in rows)


def test_the_page_shows_hostile_titles_as_text_and_loads_nothing(tagged: Workspace, tmp_path: Path) -> None:
    rows = exported(tagged, tmp_path, random_share=0.0)
    page = (tmp_path / "questions.html").read_text()
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert page.count("<article") == len(rows)
    assert page.count("data:image/jpeg") == len(rows)
    assert next(row["title"] for row in rows if row["item_id"] == "evil").startswith("'=")


def test_answers_are_imported_once_and_bad_ones_are_refused_by_row(tagged: Workspace, tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text("item_id,tag,verdict\nevil,red,no\nitem-0001,round,yes\nitem-0002,square,yes\nitem-0003,red,\n")
    figures, exit_code = import_job(tagged, answers, "ann", now=NOW)
    assert (figures, exit_code) == ({"new": 2, "known": 0, "not_filled_in": 1, "refused": 1}, 1)
    refused = pq.read_table(tagged.root / "artifacts" / "review" / "quarantine.parquet").to_pylist()
    assert [(each["line"], each["reason"]) for each in refused] == [(4, "unknown_tag")]
    figures, _ = import_job(tagged, answers, "ann", now=NOW)
    assert (figures["new"], figures["known"]) == (0, 2)
    assert [each.by for each in read_words(tagged.data_dir / HUMAN_FILE).words] == ["ann", "ann"]
    asked = {(row["item_id"], row["tag"]) for row in exported(tagged, tmp_path, random_share=0.0)}
    assert not {("evil", "red"), ("item-0001", "round")} & asked
    (tagged.data_dir / HUMAN_FILE).unlink()


def test_questions_go_out_as_parquet_too_and_come_back(tagged: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "questions.parquet"
    export_job(tagged, head="image", n=5, now=NOW, out=out)
    assert len(pq.read_table(out)) == 5
    figures, exit_code = import_job(tagged, out, "ann", now=NOW)
    assert (figures["new"], figures["not_filled_in"], exit_code) == (0, 5, 0)


def test_what_cannot_be_done_says_what_to_do(tagged: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingArtifact, match="run `recsys tag --head audio`"):
        export_job(tagged, head="audio", n=5, now=NOW)
    with pytest.raises(InputError, match=r"must end in .csv or .parquet"):
        export_job(tagged, head="image", n=5, now=NOW, out=tmp_path / "questions.xlsx")
    for by in ("", "an\na"):
        with pytest.raises(InputError, match="say who it was"):
            import_job(tagged, tmp_path / "answers.csv", by, now=NOW)
