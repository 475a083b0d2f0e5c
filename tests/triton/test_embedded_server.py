"""The embedded server: serves, batches, says why it does not start, stops without a trace."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.utils
from killed_triton import KilledTriton, deaths
from tiny_repository import ECHO, TinyRepository, infer, seconds
from waiting import wait_for
from wetread_embedded import EmbeddedTriton, ServerConfig
from wetread_embedded.errors import PortInUse, StartFailed, StoreInUse

pytestmark = pytest.mark.triton

SHM = Path("/dev/shm")


def processes_of(server: EmbeddedTriton) -> list[int]:
    return [server.pid, *(pid for pids in server.stub_pids().values() for pid in pids)]


def is_alive(pid: int) -> bool:
    """Whether a process still has its memory: one that is just ending, or not yet collected, has not."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def test_the_pipelines_of_this_checkout_are_served_by_two_models_of_ours_and_one_stand_in(server):
    assert "chest_xray" in server.pipelines
    assert {"chest_xray_preprocess", "chest_xray_classifier", "chest_xray_postprocess"} <= set(server.stub_pids())


WARM_UP = (
    "model_warmup [ { name: 'eight' batch_size: 8 inputs { key: 'X' value "
    "{ data_type: TYPE_FP32 dims: [ 5 ] zero_data: true } } } ]"
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTriton]:
    """One server over models that no test harms."""
    tiny = TinyRepository(tmp_path_factory.mktemp("shared") / "root")
    tiny.add_python("echo")
    tiny.add_scale("mixed", dims="-1, 3", delay_us=20_000)
    tiny.add_scale("flat", dims="-1", rank=3)
    tiny.add_scale("warm", instances=2, more=WARM_UP)
    with KilledTriton(tiny.config()) as server:
        yield server


def beside(server: EmbeddedTriton, **settings: object) -> ServerConfig:
    """The configuration of another server over the same models."""
    return ServerConfig.on_free_ports(**{"root": server.config.root, "exit_timeout_s": 1.0, **settings})


def test_requests_of_mixed_batch_sizes_get_their_own_rows_back(shared):
    inputs = [np.full((1 + n % 4, 2 + n % 2, 3), n, np.float32) for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        for x, y in zip(inputs, pool.map(lambda x: infer(shared, "mixed", x), inputs), strict=True):
            np.testing.assert_array_equal(y, 2 * x)


def test_a_shape_that_config_allows_and_the_model_does_not_is_the_senders_fault(shared):
    with pytest.raises(tritonclient.utils.InferenceServerException) as refused:
        infer(shared, "flat", np.zeros((1, 3), np.float32))
    assert refused.value.status() == "400"
    assert "X has shape [1, 3], the model wants [-1, -1, -1]" in refused.value.message()


def test_a_warm_up_runs_before_the_pipeline_is_ready(shared):
    assert infer(shared, "warm", np.ones((1, 5), np.float32)).tolist() == [[2.0] * 5]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda version: (version / "model.onnx").write_bytes(b"no model"), "model.onnx"),
        (lambda version: (version / "model.onnx").unlink(), "model.onnx is missing"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_named_with_the_reason(tiny, spoil, reason):
    tiny.add_scale("scale")
    spoil(tiny.root / "model_repository" / "scale_model" / "1")
    with pytest.raises(StartFailed, match=r"scale_model: ") as failed, EmbeddedTriton(tiny.config()):
        pass
    assert reason in str(failed.value)
    assert "At:" not in str(failed.value)


def loading(first: str) -> str:
    """ECHO's code with an `initialize` that counts its calls beside the version; `first`: what it does then."""
    code = f"""
        def initialize(self, args):
            with open(os.path.join(args["model_repository"], "loads"), "a+") as loads:
                loads.write(".")
                times = loads.tell()
            {first}

        def execute"""
    return ECHO.replace("\n        def execute", code, 1)


def loads(server: EmbeddedTriton) -> int:
    return len((server.config.store_dir / "model_repository" / "echo_model" / "loads").read_text())


def test_a_python_model_that_raises_while_loading_is_named_with_the_reason(tiny):
    tiny.add_python("echo", loading("raise ValueError('no recipe')"))
    server = EmbeddedTriton(tiny.config())
    with pytest.raises(StartFailed, match=r"echo_model: .*no recipe"), server:
        pass
    assert loads(server) == 1, "a fault of the model is told at once"


@pytest.mark.parametrize(("deaths_of_it", "starts"), [(1, True), (9, False)])
def test_a_model_process_that_dies_while_loading_makes_the_server_start_once_more(tiny, deaths_of_it, starts):
    tiny.add_python("echo", loading(f"if times <= {deaths_of_it}: os._exit(1)"))
    server = EmbeddedTriton(tiny.config())
    with (
        contextlib.nullcontext() if starts else pytest.raises(StartFailed, match=r"echo_model: .*not healthy"),
        server,
    ):
        assert infer(server, "echo", seconds(0)).tolist() == [[0.0]]
    assert loads(server) == 2


def test_the_stop_leaves_no_process_and_no_shared_memory(tiny):
    tiny.add_python("echo", instances=2)
    with EmbeddedTriton(tiny.config()) as server:
        infer(server, "echo", seconds(0))
        pids = processes_of(server)
        assert len(pids) == 3
        own = set(SHM.glob(f"{server._store.prefix}*"))
        assert own
    assert not [region for region in own if region.exists()]
    assert not [pid for pid in pids if is_alive(pid)]


def test_a_killed_server_leaves_nothing_after_the_stop(tiny):
    tiny.add_python("echo")
    with EmbeddedTriton(tiny.config()) as server:
        pids = processes_of(server)
        own = set(SHM.glob(f"{server._store.prefix}*"))
        assert own
        os.kill(server.pid, signal.SIGKILL)
        assert server.wait(30)
        assert not server.is_running
    assert not [region for region in own if region.exists()]
    assert not [pid for pid in pids if is_alive(pid)]


def test_two_servers_do_not_disturb_each_other(shared, tmp_path):
    with KilledTriton(beside(shared, store=tmp_path / "other")) as other:
        assert set(shared.ports).isdisjoint(other.ports)
        assert set(processes_of(shared)).isdisjoint(processes_of(other))
    assert infer(shared, "echo", seconds(0)).tolist() == [[0.0]]
    assert deaths(shared) == []


def test_a_store_in_use_is_refused_naming_the_process(shared):
    with pytest.raises(StoreInUse, match=f"process {os.getpid()} uses"), EmbeddedTriton(beside(shared)):
        pass


def test_a_port_in_use_is_named(shared, tmp_path):
    taken = beside(shared, http_port=shared.ports[0], store=tmp_path / "other")
    with pytest.raises(PortInUse, match=str(shared.ports[0])), EmbeddedTriton(taken):
        pass


def test_the_server_ends_with_a_starter_that_was_killed_and_the_store_is_free_again(tiny):
    tiny.add_python("echo")
    code = (
        "import sys, time; from pathlib import Path; from wetread_embedded import *\n"
        "with EmbeddedTriton(ServerConfig.on_free_ports(root=Path(sys.argv[1]), exit_timeout_s=1.0)) as s:\n"
        "    print(s.pid, flush=True); time.sleep(600)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(tiny.root)], stdout=subprocess.PIPE, text=True)
    pid = int(starter.stdout.readline())
    own = set(SHM.glob(f"wetread_{starter.pid}_*"))
    assert own
    starter.kill()
    starter.communicate()
    assert wait_for(lambda: not is_alive(pid))
    with KilledTriton(tiny.config()) as server:
        assert infer(server, "echo", seconds(0)).tolist() == [[0.0]]
    assert not [region for region in own if region.exists()]


def test_the_log_reaches_the_file_and_the_listener(tiny, tmp_path):
    tiny.add_python("echo")
    lines = []
    with EmbeddedTriton(tiny.config(log_file=tmp_path / "the.log", on_log=lines.append)):
        pass
    assert any("Started HTTPService" in line for line in lines)
    assert (tmp_path / "the.log").read_text().splitlines() == lines
