"""The command line: exit codes 0, 1 and 2, errors that say what to do, results as JSON, and help at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jobs import cli
from jobs.cli import app
from recsys.workspace import CONFIG_NAME, Workspace
from tests.worlds.workspaces import copied, write_workspace

VERBS = (
    "init",
    "doctor",
    "validate",
    "embed",
    "embed report",
    "train",
    "evaluate",
    "release",
    "release build",
    "release publish",
    "release rollback",
    "release list",
    "refresh",
    "events",
    "events export",
    "events import",
    "plan",
    "serve",
    "demo",
)
HELP_CPU_S = 2.0
HELP = """
import json, sys, time
from jobs.cli import app
from typer.testing import CliRunner
for verb in {verbs!r}:
    done = CliRunner().invoke(app, [*verb.split(), "--help"])
    print(json.dumps([verb, done.exit_code, done.output, time.process_time(), sorted(sys.modules)]))
"""


def run(*arguments: str, workspace: Workspace | Path) -> Result:
    root = workspace.root if isinstance(workspace, Workspace) else workspace
    return CliRunner().invoke(app, [*arguments, "--workspace", str(root)])


def test_every_verb_has_help_at_once_and_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", HELP.format(verbs=VERBS)], capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verb for verb, *_ in answers] == list(VERBS)
    before_s = 0.0
    for verb, exit_code, output, cpu_s, modules in answers:
        assert exit_code == 0, verb
        assert verb in output
        assert cpu_s - before_s < HELP_CPU_S, f"{verb} --help takes {cpu_s - before_s:.1f} s of CPU"
        assert not {"torch", "transformers", "onnxruntime", "faiss"} & set(modules), verb
        before_s = cpu_s


def test_the_verbs_are_those_that_are_listed() -> None:
    groups = {"embed": cli.embed_app, "release": cli.release_app, "events": cli.events_app}
    listed = {
        *(str(each.name or each.callback.__name__) for each in app.registered_commands if each.callback),
        *groups,
        *(
            f"{group} {each.name or (each.callback.__name__ if each.callback else '')}"
            for group, verbs in groups.items()
            for each in verbs.registered_commands
        ),
    }
    assert listed == set(VERBS)


@pytest.mark.parametrize(
    "verb", ["validate", "embed", "train", "evaluate", "release build", "release list", "refresh", "serve"]
)
def test_without_a_workspace_every_job_ends_with_2_and_names_init(verb: str, tmp_path: Path) -> None:
    done = run(*verb.split(), workspace=tmp_path)
    assert done.exit_code == 2
    assert f"{tmp_path / CONFIG_NAME} is not there: run `recsys init`" in done.stderr
    assert not done.stdout


def test_a_setting_that_there_is_not_is_named(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text("[training]\nlearning_rat = 0.1\n\n[gate]\nmin_users = 'many'\n")
    done = run("validate", workspace=tmp_path)
    assert done.exit_code == 2
    assert "training.learning_rat: is not a setting we know" in done.stderr
    assert "gate.min_users: " in done.stderr


def test_data_that_is_missing_is_an_error_that_says_where_it_goes(tmp_path: Path) -> None:
    run("init", workspace=tmp_path)
    nothing = run("validate", workspace=tmp_path)
    assert nothing.exit_code == 2
    assert "has no items file" in nothing.stderr
    (tmp_path / "data").rmdir()
    gone = run("validate", workspace=tmp_path)
    assert "put items.* and interactions.* into it, or set dir under [data]" in gone.stderr


@pytest.mark.parametrize(("verb", "first"), [("train", "validate"), ("embed", "validate"), ("evaluate", "validate")])
def test_a_job_that_comes_too_early_names_the_one_before_it(verb: str, first: str, tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    done = run(verb, workspace=workspace)
    assert done.exit_code == 2
    assert f"run `recsys {first}`" in done.stderr


def test_a_quarantined_row_ends_with_1_and_good_rows_with_0(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path, n_items=8, n_users=6)
    assert run("validate", workspace=workspace).exit_code == 0
    with (workspace.data_dir / "interactions.jsonl").open("a") as interactions:
        interactions.write('{"user_id": "u"}\n')
    assert run("validate", workspace=workspace).exit_code == 1


def test_a_failed_gate_ends_with_1(released: Workspace, tmp_path: Path) -> None:
    strict = copied(released, tmp_path / "work", more="[gate]\nmin_lift_over_popularity = 1000\n")
    file = tmp_path / "result.json"
    built = run("release", "build", "--publish", "--json", str(file), workspace=strict)
    assert built.exit_code == 1
    assert json.loads(file.read_text())["gate_problems"]
    published = run("release", "publish", "--json", str(file), workspace=strict)
    assert published.exit_code == 1
    assert "is not published: served NDCG@10" in json.loads(file.read_text())["error"]


def test_the_result_is_written_as_json(released: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    done = run("release", "list", "--json", str(file), workspace=released)
    assert done.exit_code == 0
    (release,) = json.loads(file.read_text())["releases"]
    assert release["current"] is True


def test_an_error_is_written_as_json_too(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    run("validate", "--json", str(file), workspace=tmp_path)
    assert "run `recsys init`" in json.loads(file.read_text())["error"]


def test_a_result_that_could_not_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    done = run("init", "--json", str(tmp_path / "no" / "such" / "folder.json"), workspace=tmp_path / "work")
    assert done.exit_code == 2
    assert "--json" in done.stderr
    assert not (tmp_path / "work").exists()


def test_what_stands_in_brackets_is_printed_as_it_is(tmp_path: Path) -> None:
    workspace, _ = write_workspace(tmp_path / "[red]shop[", n_items=8, n_users=6)
    with (workspace.data_dir / "items.jsonl").open("a") as items:
        items.write('{"item_id": "a[/b]", "image": "no[bold]such.png"}\n')
    assert run("validate", workspace=workspace).exit_code == 0
    embedded = run("embed", workspace=workspace)
    assert embedded.exit_code == 1
    assert "not_found 1, as a[/b]: " in embedded.stdout
    assert "no[bold]such.png" in embedded.stdout
    (workspace.data_dir / "items.jsonl").unlink()
    assert "[red]shop[/data has no items file" in run("validate", workspace=workspace).stderr


@pytest.mark.parametrize("arguments", [["teach"], ["train", "--speed", "9"], ["release", "undo"]])
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_workspace_is_here_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    assert (tmp_path / CONFIG_NAME).is_file()


def test_a_job_that_is_interrupted_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobs.init.init_workspace", interrupted)
    monkeypatch.setattr(sys, "argv", ["recsys", "init", "--workspace", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert "the same command goes on where it stopped" in capsys.readouterr().err


def test_the_installed_command_ends_with_the_jobs_exit_code(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "recsys"), "train", "--workspace", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "run `recsys init`" in done.stderr
    assert "Traceback" not in done.stderr
