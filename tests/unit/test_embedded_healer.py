"""The healer's small parts: stubs, canaries, waits."""

import pytest
from wetread_embedded.stubs import Stub, parse
from wetread_release.agent.backoff import Backoff
from wetread_release.agent.canary import DEAD_STUB, Canary

PREFIX = "wetread_6114_6765e703_"


def cmdline(region=f"{PREFIX}f713", program="/s/backends/python/triton_python_backend_stub") -> bytes:
    words = [program, "/s/model_repository/chest_xray_classifier/3/model.onnx", region, "1048576", "1048576", "6116"]
    return "\0".join([*words, "/s/backends/python", "336", "chest_xray_classifier_0_1", "/s/backends/x", ""]).encode()


def test_a_stub_is_known_by_its_command_line():
    assert parse(cmdline(), 6132, PREFIX) == Stub(6132, "chest_xray_classifier", "chest_xray_classifier_0_1", "3")


@pytest.mark.parametrize(
    "line",
    [
        cmdline(region="wetread_6114_00000000_f713"),
        cmdline(program="/usr/bin/python3"),
        b"",
        b"sleep\x001\x00",
        b"\xff\x00",
    ],
)
def test_no_other_process_is_taken_for_a_stub_of_this_server(line):
    assert parse(line, 6132, PREFIX) is None


def test_a_canary_holds_zeros_for_every_input_with_one_for_open_dimensions():
    config = {
        "max_batch_size": 8,
        "input": [
            {"name": "A", "data_type": "TYPE_FP32", "dims": ["2", "-1"]},
            {"name": "B", "data_type": "TYPE_STRING", "dims": ["3"]},
            {"name": "C", "data_type": "TYPE_INT64", "dims": [1]},
        ],
    }
    canary = Canary.of("m", config)
    head = int(canary.headers["Inference-Header-Content-Length"])
    assert canary.path == "/v2/models/m/infer"
    assert canary.body[head:] == bytes(2 * 4 + 3 * 4 + 8)
    assert b'"shape": [1, 2, 1]' in canary.body[:head]
    assert b'"datatype": "BYTES"' in canary.body[:head]


def test_a_canary_of_a_model_without_batches_has_no_batch_dimension():
    config = {"max_batch_size": 0, "input": [{"name": "A", "data_type": "TYPE_UINT8", "dims": ["-1"]}]}
    assert b'"shape": [1], ' in Canary.of("m", config).body


@pytest.mark.parametrize(
    ("words", "is_dead"),
    [
        ("Stub process 'slow_0_0' is not healthy.", True),
        ("in ensemble 'slowe', Stub process 'slow_0_0' is not healthy.", True),
        ("Failed to process the request(s) for model 'x_0_0', message: ValueError: Stub process", False),
        ("InvalidDicom: the preamble is missing", False),
        ("", False),
    ],
)
def test_only_the_words_about_a_dead_process_count(words, is_dead):
    assert bool(DEAD_STUB.search(words)) is is_dead


def test_deaths_in_a_row_wait_longer_and_longer_and_a_quiet_time_forgets():
    backoff = Backoff()
    waits = []
    for now in range(12):
        waits.append(backoff.next_wait_s(float(now)))
        backoff.last_heal = float(now)
    assert waits[:6] == [0.0, 0.0, 0.0, 0.5, 1.0, 2.0]
    assert waits[-1] == 30.0
    assert backoff.next_wait_s(1000.0) == 0.0
