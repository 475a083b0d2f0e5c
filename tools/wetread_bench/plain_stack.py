"""The stack that a team writes first: one Flask process, pydicom, scipy, ONNX Runtime, a line in SQLite."""

import io
import logging
import sqlite3
import sys
import time
from pathlib import Path
from threading import Thread

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pydicom
import scipy.ndimage
from flask import Flask, Response, jsonify, request
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from wetread_bench.worker import obey

SIDE = 224


def make_app(model: Path, database: Path) -> Flask:
    """Return the application: `POST /read` with a film's bytes answers JSON; nothing in it is made slow on purpose."""
    app = Flask("plain")
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    with sqlite3.connect(database) as log:
        log.execute("CREATE TABLE IF NOT EXISTS readings (at REAL, uid TEXT, probability REAL)")
    log.close()

    @app.post("/read")
    def read() -> Response:
        dataset = pydicom.dcmread(io.BytesIO(request.get_data()))
        (logits,) = session.run(["LOGITS"], {"IMAGE": to_image(dataset)})
        probability = float(1.0 / (1.0 + np.exp(-logits[0, 0])))
        log = sqlite3.connect(database, timeout=30)
        with log:  # commits
            log.execute("INSERT INTO readings VALUES (?, ?, ?)", (time.time(), dataset.SOPInstanceUID, probability))
        log.close()
        return jsonify(probability=probability, sop_instance_uid=dataset.SOPInstanceUID)

    return app


def to_image(dataset: pydicom.Dataset) -> npt.NDArray[np.float32]:
    """Return IMAGE [1, 1, 224, 224] of a film; linear interpolation, which is the quickest that scipy's zoom has."""
    pixels = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    small = scipy.ndimage.zoom(pixels, [SIDE / side for side in pixels.shape], order=1)
    top = 2**dataset.BitsStored - 1
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        small = top - small
    image: npt.NDArray[np.float32] = ((small / top * 255 - 127) / 128).astype(np.float32)
    return image[None, None]


def main() -> None:
    """Serve on a free loopback port until standard input ends. Arguments: model file, database file."""
    from werkzeug.serving import make_server  # noqa: PLC0415

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # an access log of its own would only slow it down
    server = make_server("127.0.0.1", 0, make_app(Path(sys.argv[1]), Path(sys.argv[2])), threaded=True)
    Thread(target=server.serve_forever, daemon=True).start()
    obey({"url": lambda: f"http://127.0.0.1:{server.server_port}"})
    server.shutdown()


if __name__ == "__main__":
    main()
