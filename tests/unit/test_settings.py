"""What a broker can be told: every setting by flag and by environment, and what cannot be, said in words."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from broker.settings import Settings, SettingsError, misspelt, operator_path, parse
from producer import command_line

#: For each setting: text that can be given, and the value it means.
EXAMPLES: dict[str, tuple[str, Any]] = {
    "tasks": ("demo.tasks", "demo.tasks"),
    "endpoint": ("ipc:///tmp/turnstile", "ipc:///tmp/turnstile"),
    "workers": ("3", 3),
    "capacity": ("5", 5),
    "capacity_bytes": ("64", 64),
    "message_bytes": ("2048", 2_048),
    "remember_ids": ("0", 0),
    "remember_s": ("1.5", 1.5),
    "dead_letters": ("9", 9),
    "dead_letters_bytes": ("10", 10),
    "drain_s": ("1.5", 1.5),
    "switch_interval_s": ("0.01", 0.01),
    "spill": ("/var/lib/turnstile/spill", "/var/lib/turnstile/spill"),
    "operator": ("/run/turnstile/operator", "/run/turnstile/operator"),
    "log_level": ("debug", "debug"),
    "insecure": ("yes", True),
    "keys": ("/etc/turnstile", "/etc/turnstile"),
    "spare_workers": ("3", 3),
    "isolate": ("yes", True),
    "child_hosts": ("4", 4),
    "child_workers": ("2", 2),
    "child_nice": ("0", 0),
    "poison_after": ("1", 1),
}
TASKS = ["--tasks", "demo.tasks"]
NUMBERS = [one for one in fields(Settings) if one.metadata["at_least"] is not None]


def flag(name: str) -> str:
    """The flag of a setting."""
    return "--" + name.replace("_", "-")


def refusal(*arguments: str, **environment: str) -> str:
    """What is said about them."""
    with pytest.raises(SettingsError) as caught:
        parse([*TASKS, *arguments], environment)
    return str(caught.value)


def test_every_setting_has_its_example_here() -> None:
    """A new setting is not forgotten below."""
    assert set(EXAMPLES) == {one.name for one in fields(Settings)}


@pytest.mark.parametrize("name", EXAMPLES)
def test_setting_by_flag(name: str) -> None:
    """A flag sets its field, as `--flag VALUE` and as `--flag=VALUE`, and nothing else."""
    text, value = EXAMPLES[name]
    forms = [[flag(name)]] if value is True else [[flag(name), text], [f"{flag(name)}={text}"]]
    for form in forms:
        settings = parse([*TASKS, *form], {})
        assert getattr(settings, name) == value
        assert type(getattr(settings, name)) is type(value)
        others = [one for one in fields(Settings) if one.name not in {name, "tasks"}]
        assert all(getattr(settings, one.name) == one.default for one in others)


@pytest.mark.parametrize("name", EXAMPLES)
def test_setting_by_environment(name: str) -> None:
    """The environment variable of a setting sets it, if no flag does; an empty one is no value."""
    text, value = EXAMPLES[name]
    variable = "TURNSTILE_" + name.upper()
    base = [] if name == "tasks" else TASKS
    assert getattr(parse(base, {variable: text}), name) == value
    assert getattr(parse(TASKS, {variable: ""}), name) == getattr(parse(TASKS, {}), name)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("CAPASITY", "CAPACITY"), ("DRAIN", "DRAIN_S"), ("WORKER", "WORKERS"), ("LOGLEVEL", "LOG_LEVEL")],
)
def test_misspelt_variable_is_found(given: str, meant: str) -> None:
    """With the one that is meant; the settings themselves, and what is empty, are no mistakes."""
    right = {"TURNSTILE_" + name.upper(): text for name, (text, _) in EXAMPLES.items()}
    wrong = {"TURNSTILE_" + given: "3"}
    assert misspelt({**right, **wrong}) == {"TURNSTILE_" + given: "TURNSTILE_" + meant}
    assert misspelt(right | dict.fromkeys(wrong, "")) == {}


@pytest.mark.parametrize(
    "name", ["SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_5555_TCP", "PORT_5555_TCP_ADDR", "NAME", "IMAGE", ""]
)
def test_variable_of_an_orchestrator_is_no_mistake(name: str) -> None:
    """For a service named turnstile they put these in; nor is a misspelt variable of somebody else's ours."""
    assert misspelt({"TURNSTILE_" + name: "x", "CAPASITY": "3", "TURNSTIL_CAPACITY": "3"}) == {}


def test_variables_of_producers_are_no_mistakes() -> None:
    """All that their command line knows."""
    known = [text for name, text in vars(command_line).items() if name.endswith("_VARIABLE")]
    assert len(known) == 3
    assert misspelt(dict.fromkeys(known, "x")) == {}


@pytest.mark.parametrize("name", EXAMPLES.keys() - {"insecure", "isolate"})
def test_flag_wins_over_the_environment(name: str) -> None:
    """Even over an environment that could not be: what is not used is not judged."""
    text, value = EXAMPLES[name]
    assert getattr(parse([*TASKS, flag(name), text], {"TURNSTILE_" + name.upper(): "?"}), name) == value


def test_defaults_are_those_of_the_fields() -> None:
    """With nothing but the task modules, every setting has its default, and the default is allowed."""
    settings = parse(TASKS, {"HOME": "/", "TURNSTILE": "x"})
    assert all(getattr(settings, one.name) == one.default for one in fields(Settings) if one.name != "tasks")


@pytest.mark.parametrize("one", NUMBERS, ids=lambda one: one.name)
def test_numbers_have_exact_limits(one: Any) -> None:
    """The least and the most that is allowed are allowed; one step further is not, and the message says all of it."""
    low, high = one.metadata["at_least"], one.metadata["at_most"]
    for allowed in (low, high):
        assert getattr(parse([*TASKS, flag(one.name), str(allowed)], {}), one.name) == allowed
    for value in (low - 1, high + 1):
        message = refusal(flag(one.name), str(value))
        shown = value if one.type == "int" else float(value)
        assert message == f"{flag(one.name)} is {low:,} to {high:,}, not {shown}"


@pytest.mark.parametrize("one", NUMBERS, ids=lambda one: one.name)
@pytest.mark.parametrize("text", ["", "many", "1.5.0", "0x10", "10k", "nan", "inf"])
def test_what_is_no_number_is_refused(one: Any, text: str) -> None:
    """The message names the flag, or the variable, and the value."""
    message = refusal(flag(one.name), text)
    assert message.startswith(flag(one.name) + " is ")
    assert text in message
    if text not in {"", "nan", "inf"}:
        variable = "TURNSTILE_" + one.name.upper()
        noun = "a whole number" if one.type == "int" else "a number"
        assert refusal(**{variable: text}) == f"{variable} is {noun}, not '{text}'"


@pytest.mark.parametrize("name", [one.name for one in NUMBERS if one.type == "int"])
def test_counts_are_whole(name: str) -> None:
    """A count of 2.5 is refused, and not cut."""
    assert refusal(flag(name), "2048.5") == f"{flag(name)} is a whole number, not '2048.5'"


@pytest.mark.parametrize("tasks", ["", " ", ",", " , "])
def test_tasks_are_required(tasks: str) -> None:
    """Without a module there is nothing to run; the message says what to give."""
    for arguments in ([], ["--tasks", tasks]):
        with pytest.raises(SettingsError, match=r"--tasks is required.*such as demo\.tasks"):
            parse(arguments, {"TURNSTILE_TASKS": tasks})


def test_modules_are_listed_without_their_blanks() -> None:
    """Several modules are separated by commas; blanks and empty ones do not matter."""
    assert parse(["--tasks", " a.b, c ,,"], {}).modules == ("a.b", "c")


@pytest.mark.parametrize("text", ["1", "yes", "true", "on", "YES", "True"])
def test_switch_in_the_environment_is_on(text: str) -> None:
    """All usual words for yes."""
    assert parse(TASKS, {"TURNSTILE_INSECURE": text}).insecure


@pytest.mark.parametrize("text", ["0", "no", "false", "off", "No"])
def test_switch_in_the_environment_is_off(text: str) -> None:
    """All usual words for no: none of them passes for yes because it is some text."""
    assert not parse(TASKS, {"TURNSTILE_INSECURE": text}).insecure


def test_switch_in_the_environment_is_clear() -> None:
    """Any other word is refused: whether a port is open to the world must not be guessed."""
    assert refusal(TURNSTILE_INSECURE="maybe") == "TURNSTILE_INSECURE is yes or no, not 'maybe'"


@pytest.mark.parametrize("level", ["verbose", "INFO", ""])
def test_other_log_levels_are_refused(level: str) -> None:
    """The message lists the levels there are."""
    assert refusal("--log-level", level) == f"--log-level is one of debug, info, warning, error; not '{level}'"


def test_endpoint_that_cannot_be_is_refused_as_a_setting() -> None:
    """The endpoint's own words, with the flag's name in front."""
    assert refusal("--endpoint", "tcp://127.0.0.1:99999") == "--endpoint: a port is 0 to 65535, not 99999"


def test_keys_allow_an_endpoint_that_others_can_reach() -> None:
    """A closed door may be anywhere; and to call it insecure too is a contradiction."""
    anywhere = ["--endpoint", "tcp://0.0.0.0:5555", "--keys", "keys"]
    assert parse([*TASKS, *anywhere], {}).keys == "keys"
    assert "contradict" in refusal(*anywhere, "--insecure")


def test_open_endpoint_needs_insecure_by_flag_or_environment() -> None:
    """An endpoint that other machines can reach is refused, with the way out named, until it is asked for aloud."""
    anywhere = ["--endpoint", "tcp://0.0.0.0:5555"]
    assert "say --insecure" in refusal(*anywhere)
    assert parse([*TASKS, *anywhere, "--insecure"], {}).insecure
    assert parse([*TASKS, *anywhere], {"TURNSTILE_INSECURE": "1"}).insecure


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--capcity", "5"], "--capcity"),
        (["--work", "5"], "--work"),
        (["extra"], "extra"),
        (["--workers"], "--workers"),
        (["--insecure=perhaps"], "--insecure"),
    ],
)
def test_what_is_not_understood_is_named(arguments: list[str], words: str) -> None:
    """A misspelt or cut flag, an argument too many or too few: an error that names it, and no exit of the process."""
    assert words in refusal(*arguments)


@pytest.mark.parametrize(
    ("arguments", "environment", "path"),
    [
        ([], {"HOME": "/home/ada"}, "/home/ada/.local/state/turnstile/tcp-127.0.0.1-5555-6ea0e7d9-c39b21d3.spill"),
        (
            [],
            {"HOME": "/home/ada", "XDG_STATE_HOME": "/state"},
            "/state/turnstile/tcp-127.0.0.1-5555-6ea0e7d9-c39b21d3.spill",
        ),
        (
            ["--endpoint", "ipc:///run/a/door"],
            {"XDG_STATE_HOME": "/s"},
            "/s/turnstile/ipc-run-a-door-fb506249-c39b21d3.spill",
        ),
        (["--endpoint", "tcp://127.0.0.1:0"], {"HOME": "/home/ada"}, None),
        (["--spill", "none"], {"HOME": "/home/ada"}, None),
        (["--spill", "here"], {"HOME": "/home/ada"}, "here"),
        (["--spill", "here", "--endpoint", "tcp://127.0.0.1:0"], {}, "here"),
    ],
)
def test_spill_file_is_found_by_endpoint_and_home(
    arguments: list[str], environment: dict[str, str], path: str | None
) -> None:
    """By default a file of this endpoint's in the user's state; for a port that nobody can know, none."""
    found = parse([*TASKS, *arguments], environment).spill_path(environment)
    assert found == (None if path is None else Path(path))


def test_endpoints_do_not_share_a_spill_file() -> None:
    """A broker must not load what another one left."""
    endpoints = [
        "tcp://127.0.0.1:5555",
        "tcp://127.0.0.1:5556",
        "tcp://localhost:5555",
        "ipc://a/b",
        "ipc:///a/b",
        "ipc://a-b",
    ]
    paths = {parse([*TASKS, "--endpoint", endpoint], {}).spill_path({}) for endpoint in endpoints}
    assert len(paths) == len(endpoints)


def test_brokers_with_other_tasks_do_not_share_a_spill_file() -> None:
    """At one endpoint, one after the other: whose task functions are others' cannot run what is in the file. The order
    of the modules means nothing.
    """
    tasks = ["a", "b", "a,b", "b,a", "a, b,a", "a.b"]
    paths = [parse(["--tasks", modules], {}).spill_path({}) for modules in tasks]
    assert len(set(paths)) == 4
    assert paths[2] == paths[3] == paths[4]


@pytest.mark.parametrize(
    ("arguments", "environment", "path"),
    [
        (["--operator", "/run/x"], {}, "/run/x"),
        (["--operator", "none"], {"HOME": "/h"}, None),
        (["--endpoint", "tcp://127.0.0.1:0"], {"HOME": "/h"}, None),
        (["--endpoint", "tcp://127.0.0.1:0", "--operator", "/run/x"], {"HOME": "/h"}, "/run/x"),
        ([], {"HOME": "/h"}, "/h/.local/state/turnstile/operator/"),
        ([], {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/turnstile/operator/"),
    ],
)
def test_operators_door_is_found_by_the_endpoint(
    arguments: list[str], environment: dict[str, str], path: str | None
) -> None:
    """By default in a folder of the user's state; for a port that nobody can know, nowhere."""
    settings = parse([*TASKS, *arguments], environment)
    found = operator_path(settings.operator, settings.endpoint, environment)
    assert (found is None) == (path is None)
    assert str(found).startswith(str(path))


def test_endpoints_do_not_share_an_operators_door() -> None:
    """Each broker has its own; and where one fits, they all do, however long the endpoint is."""
    endpoints = ["tcp://127.0.0.1:5555", "tcp://127.0.0.1:5556", "tcp://localhost:5555", "ipc:///" + "a" * 100]
    paths = {operator_path("auto", endpoint, {"HOME": "/h"}) for endpoint in endpoints}
    assert len(paths) == len(endpoints)
    assert len({len(str(path)) for path in paths}) == 1


@pytest.mark.parametrize("path", ["/" + "x" * 200, ".", "/", "", "/a\udcffb", "/a\nb"], ids=ascii)
def test_operators_door_needs_a_path_that_can_be(path: str) -> None:
    """A socket's path is short, the refusal says how short; and it is a file's, in UTF-8."""
    assert "--operator is auto, none or a path: ipc:// needs" in refusal("--operator", path)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:0", "tcp://127.0.0.1:00", "tcp://[::1]:0"])
def test_port_that_nobody_can_know_has_neither_file_nor_operators_door(endpoint: str) -> None:
    """However its number is written."""
    settings = parse([*TASKS, "--endpoint", endpoint], {})
    assert (settings.spill_path({}), operator_path("auto", endpoint, {})) == (None, None)


def test_path_that_looks_like_any_port_has_both() -> None:
    """Its last two characters are a name's."""
    settings = parse([*TASKS, "--endpoint", "ipc:///run/x:0"], {})
    assert settings.spill_path({}) is not None
    assert operator_path("auto", settings.endpoint, {}) is not None


def test_relative_paths_are_those_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, at the start, and for who looks for the operator's door from there; what is no path stays as it is."""
    monkeypatch.chdir(tmp_path)
    settings = parse([*TASKS, "--endpoint", "ipc://d", "--spill", "s", "--operator", "o", "--keys", "k"], {}).absolute()
    assert (settings.endpoint, settings.spill, settings.operator, settings.keys) == (
        f"ipc://{tmp_path}/d", f"{tmp_path}/s", f"{tmp_path}/o", f"{tmp_path}/k",
    )  # fmt: skip
    assert operator_path("auto", "ipc://d", {}) == operator_path("auto", settings.endpoint, {})
    assert parse([*TASKS, "--spill", "none"], {}).absolute() == parse([*TASKS, "--spill", "none"], {})
    assert str(parse(TASKS, {}).spill_path({"XDG_STATE_HOME": "state"})).startswith(f"{tmp_path}/state/")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--endpoint", "ipc:///run/x", "--spill", "/run/x"], "--endpoint and --spill are both /run/x"),
        (["--endpoint", "ipc:///run/x", "--operator", "/run/x"], "--endpoint and --operator are both /run/x"),
        (["--spill", "/run/x", "--operator", "/run/x"], "--spill and --operator are both /run/x"),
    ],
)
def test_paths_are_different_ones(arguments: list[str], words: str) -> None:
    """Each has a file of its own; that two of them are one is not another broker's doing."""
    assert refusal(*arguments) == words + ": each needs a path of its own"


def test_settings_cannot_be_changed() -> None:
    """What was validated once stays valid."""
    settings = parse(TASKS, {})
    with pytest.raises(FrozenInstanceError):
        settings.workers = 0  # type: ignore[misc]


def test_help_lists_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` prints each flag, its default and the exit codes, and leaves."""
    with pytest.raises(SystemExit) as left:
        parse(["--help"], {})
    assert left.value.code == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for one in fields(Settings):
        assert flag(one.name) in text
        assert one.type == "bool" or one.default == "" or f"(default: {one.default})" in text
    assert "exit codes:" in text
