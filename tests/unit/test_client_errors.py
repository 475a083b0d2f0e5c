from __future__ import annotations

import pickle

import pytest
from wetread_client.errors import (
    CAUSES,
    ERRORS,
    HTTP_STATUS,
    NoSuchOutput,
    RegionLost,
    Rejected,
    ServerError,
    Status,
    Unavailable,
    status_of_http,
    translate,
)

# DESIGN's table of causes, and what else a server or a proxy may answer.
CASES = [
    (Status.INVALID_ARGUMENT, "InvalidDicom: no pixel data", Rejected, "InvalidDicom", "no pixel data"),
    (Status.UNIMPLEMENTED, "UnsupportedImage: a lateral view", Rejected, "UnsupportedImage", "a lateral view"),
    (Status.INVALID_ARGUMENT, "unexpected shape for input 'DICOM'", ServerError, "INVALID_ARGUMENT", None),
    (
        Status.INVALID_ARGUMENT,
        "unexpected inference output 'HEATMAP' for model 'chest_xray'",
        NoSuchOutput,
        "INVALID_ARGUMENT",
        None,
    ),
    (Status.UNIMPLEMENTED, "no such method", ServerError, "UNIMPLEMENTED", None),
    (Status.NOT_FOUND, "Unable to find shared memory region: 'a'", RegionLost, "NOT_FOUND", None),
    (Status.NOT_FOUND, "Request for unknown model: 'chest_xray' is not found", Unavailable, "NOT_FOUND", None),
    (Status.UNAVAILABLE, "Exceeds maximum queue size", Unavailable, "UNAVAILABLE", None),
    (Status.DEADLINE_EXCEEDED, "Deadline Exceeded", Unavailable, "DEADLINE_EXCEEDED", None),
    (Status.INTERNAL, "Stub process 'chest_xray_preprocess_0_0' is not healthy.", ServerError, "INTERNAL", None),
]


@pytest.mark.parametrize(("status", "message", "kind", "code", "reason"), CASES)
@pytest.mark.parametrize("ensembles", ["", "in ensemble 'chest_xray', ", "in ensemble 'a', in ensemble 'b', "])
def test_a_status_and_message_become_the_error_of_the_table(status, message, kind, code, reason, ensembles):
    error = translate(status, ensembles + message)
    assert (type(error), error.code, error.message) == (kind, code, reason or message)


@pytest.mark.parametrize("status", Status)
def test_every_status_has_an_error_and_none_rejects_a_film_without_our_word(status):
    assert issubclass(ERRORS[status], Unavailable | ServerError)
    assert type(translate(status, "whatever")) is ERRORS[status]


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("word", ["InvalidDicom", "UnsupportedImage"])
def test_our_word_rejects_a_film_with_its_own_code_only(status, word):
    rejects = any(cause.status is status and cause.code == word for cause in CAUSES)
    assert isinstance(translate(status, f"{word}: x"), Rejected) == rejects


def test_our_word_in_the_middle_of_a_message_rejects_nothing():
    assert type(translate(Status.INVALID_ARGUMENT, "cannot parse 'InvalidDicom: x'")) is ServerError


def test_statuses_of_http_cover_what_triton_sends_and_unknown_ones_are_no_excuse_to_reject():
    triton = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 503: "UNAVAILABLE", 501: "UNIMPLEMENTED", 500: "INTERNAL"}
    assert {code: HTTP_STATUS[code].value for code in triton} == triton
    assert type(translate(status_of_http(418), "InvalidDicom: x")) is ServerError


def test_an_error_names_the_file_its_code_and_its_reason_and_survives_a_process_boundary():
    error = Rejected("InvalidDicom", "no pixel data", "film.dcm")
    assert str(error) == "film.dcm: InvalidDicom: no pixel data"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.code, copy.message, copy.file) == (Rejected, "InvalidDicom", "no pixel data", "film.dcm")
