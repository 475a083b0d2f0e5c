"""The chest film pipeline stays alive: each of its processes killed under load, a server stopped in order."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http
import tritonclient.utils
from films import film, to_bytes
from killed_triton import KilledTriton
from tiers import only_full, tried
from waiting import wait_for
from wetread_embedded import ServerConfig
from wetread_embedded.slots import empty_slots

pytestmark = pytest.mark.triton

CLIENTS = 4
ENOUGH = tried(16, 40)
"""Answers after which a process would have been met that does not work: two of them take turns."""
CHECKOUT = Path(__file__).parents[2]


def read(client: tritonclient.http.InferenceServerClient, dicom: bytes) -> float:
    tensor = tritonclient.http.InferInput("DICOM", [1, len(dicom)], "UINT8")
    tensor.set_data_from_numpy(np.frombuffer(dicom, np.uint8)[None])
    return float(client.infer("chest_xray", [tensor]).as_numpy("PROBABILITY")[0, 0])


def test_every_process_of_the_pipeline_comes_back_under_load(tmp_path):
    dicom = to_bytes(film(np.random.default_rng(0).integers(0, 4096, (512, 512)).astype(np.uint16)))
    end, failed, answered = threading.Event(), [], []

    def ask(address: str) -> None:
        client = tritonclient.http.InferenceServerClient(address, network_timeout=60.0)
        while not end.is_set():
            sent = time.monotonic()
            try:
                answered.append((sent, read(client, dicom)))
            # Seen once: the server never answered the batch that the process died with.
            except (tritonclient.utils.InferenceServerException, TimeoutError) as error:
                failed.append((sent, str(error)))
        client.close()

    config = ServerConfig.on_free_ports(root=CHECKOUT, store=tmp_path)
    with KilledTriton(config) as server:
        threads = [threading.Thread(target=ask, args=[server.http_url.removeprefix("http://")]) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            assert wait_for(lambda: len(answered) > ENOUGH)
            for kill, model in enumerate(
                ("chest_xray_preprocess", "chest_xray_classifier", "chest_xray_postprocess"), 1
            ):
                failed.clear()
                killed = time.monotonic()
                os.kill(server.stub_pids()[model][-1], signal.SIGKILL)
                assert wait_for(lambda kill=kill: len(server.heals) == kill)
                healed = time.monotonic()
                count = len(answered)
                assert wait_for(lambda count=count: len(answered) > count + ENOUGH)
                late = [(sent - killed, words) for sent, words in failed if sent > healed]
                assert late == []
                assert [heal.model for heal in server.heals][-1] == model
        finally:
            end.set()
            for thread in threads:
                thread.join()
        assert [heal.error for heal in server.heals] == ["", "", ""]
        assert len({value for _, value in answered}) == 1


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, *only_full(signal.SIGINT)])
def test_wetread_serve_prints_where_it_listens_and_stops_in_order(tmp_path, signal_number):
    command = [Path(sys.executable).with_name("wetread"), "serve", "--store", tmp_path]
    for port in ("--http-port", "--grpc-port", "--metrics-port"):
        command += [port, "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=CHECKOUT)
    lines = [process.stdout.readline() for _ in range(3)]
    assert lines[0].startswith("HTTP http://127.0.0.1:")
    assert lines[2] == "ready: chest_xray\n"
    process.send_signal(signal_number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "stopped\n")
    told = [line.partition(" WARNING ")[2] for line in err.splitlines()]
    assert told == [str(slot) for slot in empty_slots(CHECKOUT)], "a line for each slot, and no other word"


def test_wetread_serve_warns_loudly_on_other_hosts_and_names_a_store_in_use(server):
    command = [Path(sys.executable).with_name("wetread"), "serve", "--host", "0.0.0.0", "--store", server.config.store]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert done.returncode == 1
    assert "WARNING: listening on 0.0.0.0" in done.stderr
    assert f"process {os.getpid()} uses {server.config.store}" in done.stderr
    assert "Traceback" not in done.stderr
