"""Each command is kept with its config, once, and says how to train the same runs again."""

import json

from flatwide.runs import commands

GIVEN = {
    "config_path": "study.py",
    "config_text": "def get_config(): ...\n",
    "config": {"rho": 0.1, "axes": {"seed": (0, 1)}},
}


def listing(folder):
    return {path.name: path.read_text() for path in folder.glob("commands/*")}


def test_the_same_command_adds_nothing(tmp_path):
    path = commands.keep(tmp_path, ["--workdir=W", "--config=study.py"], **GIVEN)
    path = path.rename(path.with_name(f"20260101T000000Z-{path.name.partition('-')[2]}"))  # given long ago
    before = listing(tmp_path)
    assert commands.keep(tmp_path, ["--workdir=W", "--config=study.py"], **GIVEN) == path
    assert listing(tmp_path) == before
    content = json.loads(path.read_text())
    assert content["config"] == {"rho": 0.1, "axes": {"seed": [0, 1]}}


def test_another_flag_text_or_value_is_another_command(tmp_path):
    commands.keep(tmp_path, ["--config=study.py"], **GIVEN)
    before = listing(tmp_path)
    commands.keep(tmp_path, ["--config=study.py", "--config.seed=1"], **GIVEN)
    commands.keep(tmp_path, ["--config=study.py"], **GIVEN | {"config_text": "another"})
    commands.keep(tmp_path, ["--config=study.py"], **GIVEN | {"config": {"rho": 0.2}})  # its parent file has changed
    after = listing(tmp_path)
    assert len(after) == 4
    assert before.items() <= after.items()
    assert {command.config_text for command in commands.read(tmp_path)} == {GIVEN["config_text"], "another"}


def test_commands_are_read_in_order_and_other_files_are_left_out(tmp_path):
    assert commands.read(tmp_path) == []
    first = commands.keep(tmp_path, ["--config=study.py"], **GIVEN)
    older = json.loads(first.read_text()) | {"arguments": ["older"], "started": "2026-01-01T00:00:00+00:00"}
    (tmp_path / "commands" / "20260101T000000Z-00c0ffee.json").write_text(json.dumps(older))
    (tmp_path / "commands" / "notes.json").write_text("{")
    (tmp_path / "commands" / "list.json").write_text("[]")
    assert [command.arguments for command in commands.read(tmp_path)] == [("older",), ("--config=study.py",)]
