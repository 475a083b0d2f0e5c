"""What the embedded server decides before it starts: requirements, store, command line, settings."""

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_release import PIPELINE, TinySite
from typer.testing import CliRunner
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_embedded.attendant import find_attendant
from wetread_embedded.config import find_checkout
from wetread_embedded.errors import StartCrashed, StartFailed, StoreInUse
from wetread_embedded.requirements import Host, problems
from wetread_embedded.runtime import Runtime
from wetread_embedded.server import command_line, server_environment
from wetread_embedded.shared_memory import SHM, new_prefix, remove
from wetread_embedded.store import Store, find_backends
from wetread_release.agent.served import ServedCopy
from wetread_release.cli import app

CHECKOUT = Path(__file__).parents[2]
GOOD = Host("Linux", "x86_64", (2, 36), (3, 11), True, Path(sys.executable), "1.26.4", 1 << 30)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_good_host_has_no_problem():
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"system": "Darwin", "machine": "arm64"}, "Darwin on arm64"),
        ({"machine": "aarch64"}, "Linux on x86-64"),
        ({"glibc": (2, 31)}, "glibc 2.35 or newer (Debian 12, Ubuntu 22.04), this is 2.31"),
        ({"glibc": None}, "another one"),
        ({"python": (3, 13)}, "Python 3.11 or 3.12 is needed, this is 3.13"),
        ({"has_libpython": False}, "apt-get install libpython3.11"),
        ({"has_libpython": False, "python": (3, 12)}, "apt-get install libpython3.12"),
        ({"python3": Path("/nowhere/python3")}, "/nowhere/python3 is missing"),
        ({"numpy": "2.1.0"}, "pip install 'numpy<2'"),
        ({"numpy": None}, "pip install 'wetread[embedded]'"),
        ({"shm_free_bytes": 64 << 20}, "--shm-size=1g"),
    ],
)
def test_each_problem_is_told_with_its_remedy(change, words):
    [problem] = problems(dataclasses.replace(GOOD, **change))
    assert words in problem


def test_all_problems_are_told_at_once():
    assert len(problems(dataclasses.replace(GOOD, numpy="2.0.0", glibc=(2, 17)))) == 2


@pytest.mark.slow
def test_the_preflight_says_ok_and_warns_of_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "wetread_embedded.preflight"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok")


@pytest.mark.slow
def test_a_missing_pytriton_names_the_extra():
    code = (
        "import importlib.metadata as m; from wetread_embedded import runtime, preflight\n"
        "def missing(name): raise m.PackageNotFoundError(name)\n"
        "runtime.distribution = missing; raise SystemExit(preflight.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "nvidia-pytriton is not installed: pip install 'wetread[embedded]'"


def test_the_store_copies_only_what_the_server_reads(tmp_path):
    model = tmp_path / "root" / "model_repository" / "m"
    for name in (
        "1/model.onnx",
        "1/.gitkeep",
        "1/__pycache__/x.pyc",
        "4.partial/model.onnx",
        "CARD.md",
        "config.pbtxt",
    ):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(name)
    (tmp_path / "root" / "ensembles" / "p" / "7").mkdir(parents=True)
    (tmp_path / "root" / "ensembles" / "p" / "config.pbtxt").touch()
    store = Store.open(tmp_path / "store")
    find_attendant(ServerConfig(root=tmp_path / "root"), store).prepare()
    served = sorted(str(path.relative_to(store.models)) for path in store.models.rglob("*"))
    assert served == ["m", "m/1", "m/1/model.onnx", "m/config.pbtxt"]
    assert (store.ensembles / "p" / "7").is_dir()
    assert store.pipelines == ["p"]
    store.close()


def test_the_store_is_made_anew_and_keeps_the_cache_unless_fresh(tmp_path):
    (tmp_path / "root" / "model_repository").mkdir(parents=True)
    (tmp_path / "root" / "ensembles").mkdir()
    store = Store.open(tmp_path / "store")
    find_attendant(ServerConfig(root=tmp_path / "root"), store).prepare()
    store.provide_backends(tmp_path / "root", Runtime.find())
    (store.models / "stale").mkdir()
    (store.cache / "compiled").touch()
    store.close()
    again = Store.open(tmp_path / "store")
    find_attendant(ServerConfig(root=tmp_path / "root"), again).prepare()
    assert not (again.models / "stale").exists()
    assert (again.cache / "compiled").exists()
    again.close()
    fresh = Store.open(tmp_path / "store", fresh=True)
    assert [path.name for path in fresh.path.iterdir()] == ["lock"]
    fresh.close()


@pytest.mark.slow
def test_a_fresh_start_makes_the_served_copy_anew_and_keeps_releases_rollouts_and_keys(tmp_path, monkeypatch):
    site = TinySite(tmp_path)
    monkeypatch.chdir(site.root)
    approved = ["--approved-by", "a test", "--reason", "a test"]
    for words in (["publish", str(site.draft(2.0)), "--force", "a test"], ["promote", PIPELINE, *approved]):
        assert CliRunner().invoke(app, [*words, "--state-dir", str(site.state)]).exit_code == 0
    kept = {file: file.read_bytes() for file in files(site.state)}
    assert {file.relative_to(site.state).parts[0] for file in kept} >= {"releases", "rollout", "keys"}
    store = site.state / "served"  # where it lies by default: in the state folder
    for stale in ("cache/compiled", "golden/film", "agent.json", "model_repository/tiny_classifier/2/model.onnx"):
        (store / stale).parent.mkdir(parents=True, exist_ok=True)
        (store / stale).write_bytes(b"of the last start")

    def launch(*_):
        raise StartFailed("the rest needs a server")

    monkeypatch.setattr(EmbeddedTriton, "_launch_whatever_loads", launch)
    with pytest.raises(StartFailed, match="the rest needs a server"):
        EmbeddedTriton(site.config(store=store, fresh=True)).start()
    assert ServedCopy(store / "model_repository", store / "ensembles").release_of(PIPELINE) == 2
    assert [file for file in files(store) if file.read_bytes() == b"of the last start"] == []
    assert {file: file.read_bytes() for file in kept} == kept


@pytest.mark.parametrize(("crashes", "starts"), [(1, True), (2, False)])
def test_a_server_that_aborts_while_starting_is_started_once_more(tmp_path, monkeypatch, crashes, starts):
    launched = []

    def launch(*_):
        launched.append(len(launched))
        if len(launched) <= crashes:
            raise StartCrashed("the server ended with -6 while starting")

    monkeypatch.setattr(EmbeddedTriton, "_launch", launch)
    server, store = EmbeddedTriton(ServerConfig.on_free_ports(store=tmp_path)), Store.open(tmp_path)
    with contextlib.nullcontext() if starts else pytest.raises(StartCrashed):
        server._launch_on_ports(Runtime.find(), store)
    assert len(launched) == 2
    store.close()


def test_a_store_is_held_by_one_server_and_free_after_its_end(tmp_path):
    first = Store.open(tmp_path)
    with pytest.raises(StoreInUse, match=f"process {os.getpid()} uses"):
        Store.open(tmp_path)
    first.close()
    Store.open(tmp_path).close()


def test_a_store_whose_lock_is_held_by_a_stranger_is_refused(tmp_path):
    with (tmp_path / "lock").open("w") as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        with pytest.raises(StoreInUse, match="process unknown"):
            Store.open(tmp_path)


def test_opening_a_store_removes_the_shared_memory_that_its_killed_server_left(tmp_path):
    store = Store.open(tmp_path)
    left = SHM / f"{store.prefix}region"
    left.touch()
    store.close()
    Store.open(tmp_path).close()
    assert not left.exists()


def test_a_store_is_freed_of_a_model_process_that_outlived_its_server_and_starter(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    model = tmp_path / "repository" / "model" / "1" / "model.py"
    model.parent.mkdir(parents=True)
    model.write_text("read never\n")  # a shell script: it waits for a word that does not come
    prefix = new_prefix()
    words = [
        "triton_python_backend_stub",
        str(model),
        f"{prefix}region",
        "1",
        "1",
        "0",
        "f",
        "h",
        "model_0_0",
        "python",
    ]
    with (tmp_path / "lock").open("w") as lock:
        lock.write(json.dumps({"pid": ended.pid, "prefix": prefix}))
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        orphan = subprocess.Popen(words, executable="/bin/sh", stdin=subprocess.PIPE, pass_fds=[lock.fileno()])
    try:
        Store.open(tmp_path).close()
        assert orphan.wait(120) == -signal.SIGKILL
    finally:
        orphan.kill()
        orphan.communicate()


@pytest.mark.parametrize("prefix", ["", "wetread_", "*", "wetread_1_*_"])
def test_shared_memory_of_others_is_never_removed(prefix):
    with pytest.raises(ValueError, match="not a prefix of ours"):
        remove(prefix)


def test_two_prefixes_differ():
    assert new_prefix() != new_prefix()


def test_the_backends_are_those_of_the_checkout_and_the_stand_in():
    backends = find_backends(CHECKOUT)
    assert set(backends) == {"onnxruntime", "wetread_preprocess", "wetread_postprocess"}
    assert all((folder / "model.py").is_file() for folder in backends.values())


def test_the_command_line_listens_on_loopback_only_and_loads_the_pipelines_alone(tmp_path):
    config = ServerConfig(store=tmp_path)
    store = Store.open(tmp_path)
    runtime = Runtime.find()
    find_attendant(config, store).prepare()
    command = command_line(config, runtime, store, (1, 2, 3))
    store.close()
    assert [word for word in command if "address" in word] == [
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
    ]
    assert [word for word in command if word.startswith("--load-model")] == ["--load-model=chest_xray"]
    assert "--model-control-mode=explicit" in command
    assert f"--backend-config=python,shm-region-prefix-name={store.prefix}" in command


@pytest.mark.parametrize(
    "settings", [{"http_port": -1}, {"grpc_port": 70000}, {"exit_timeout_s": 0}, {"http_threads": 0}]
)
def test_a_setting_out_of_range_is_refused_by_name(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        ServerConfig(**settings)


def test_every_setting_says_what_it_is():
    source = (CHECKOUT / "embedded" / "wetread_embedded" / "config.py").read_text()
    for field in dataclasses.fields(ServerConfig):
        after = source.split(f"    {field.name}: ")[1].split("\n", 1)[1].lstrip()
        assert after.startswith('"""'), field.name


def test_the_checkout_is_found_from_a_folder_inside_and_from_anywhere():
    assert find_checkout(CHECKOUT / "tests" / "unit") == CHECKOUT
    assert find_checkout(Path("/")) == CHECKOUT


def test_the_default_store_is_a_build_folder_of_the_checkout():
    assert ServerConfig(root=CHECKOUT).store_dir == CHECKOUT / "build" / "state" / "served"


@pytest.mark.parametrize("said", ["", "/elsewhere"])
def test_kernels_are_kept_in_the_state_folder_unless_the_environment_says_where(tmp_path, monkeypatch, said):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    if said:
        monkeypatch.setenv("NUMBA_CACHE_DIR", said)
    config = ServerConfig(root=CHECKOUT, store=tmp_path / "store", state=tmp_path / "state")
    store = Store.open(config.store_dir)
    environment = server_environment(config, Runtime.find(), store)
    store.close()
    assert environment["NUMBA_CACHE_DIR"] == (said or str(tmp_path / "state" / "kernels"))
    assert environment["WETREAD_MODEL_CACHE"] == str(tmp_path / "store" / "cache")
