"""A first configuration from a few answers: `wetread gateway init`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from wetread_gateway.config.load import load
from wetread_gateway.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Answers:
    """What a new site is asked; the defaults are those of a PACS on this machine."""

    state_dir: Path = Path("/var/lib/wetread")
    ae_title: str = "WETREAD"
    host: str = "127.0.0.1"
    port: int = 11112
    senders: tuple[str, ...] = field(default=())
    """AE titles that send to us, beside the PACS."""
    pacs_ae_title: str = "PACS"
    pacs_host: str = "127.0.0.1"
    pacs_port: int = 104
    http_port: int = 8080
    triton_url: str = "http://127.0.0.1:8000"


def write(file: Path, answers: Answers) -> None:
    """Write a commented configuration that `load` accepts.

    ConfigError where a file stands already, which stays as it is, or where an answer is no good.
    """
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(render(answers))
    except FileExistsError:
        raise ConfigError(f"{file} is there already and stays as it is; move it away or name another file") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}") from error
    try:
        load(file)
    except ConfigError:
        file.unlink()  # what was just written, so that the next try is not refused
        raise


def render(answers: Answers) -> str:
    """Give the text of the configuration."""
    stat = f"{answers.ae_title[:11]}_STAT"
    peers = dict.fromkeys((answers.pacs_ae_title, *answers.senders))
    return _TEMPLATE.format(
        state_dir=_text(str(answers.state_dir)),
        ae_title=_text(answers.ae_title),
        stat_ae_title=_text(stat),
        host=_text(answers.host),
        port=answers.port,
        peers="\n\n".join(f"[[peer]]\nae_title = {_text(title)}" for title in peers),
        http_port=answers.http_port,
        triton_url=_text(answers.triton_url),
        pacs_ae_title=_text(answers.pacs_ae_title),
        pacs_host=_text(answers.pacs_host),
        pacs_port=answers.pacs_port,
    )


def _text(value: str) -> str:
    """Write a TOML basic string: JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=False)


_TEMPLATE = """\
# The gateway's configuration. Every setting, its unit and its default: docs/gateway-settings.md.
#   wetread gateway check --config FILE     what it will do, or every mistake with its line
#   wetread gateway explain --config FILE IMAGE     which rule fires for an image, and why
#   wetread gateway --config FILE           run it; a changed file is taken up without a restart
# Paths are relative to this file. Secrets stand in files of their own, never here.

[gateway]
# What must not be lost: received images, the state store, the audit trail. One file system, with room.
state_dir = {state_dir}
# store = "postgresql+psycopg://wetread@db/wetread?passfile=/etc/wetread/pgpass"   # several gateways, one store

[dicom]
ae_title = {ae_title}
# What is sent to this AE title passes everything else.
stat_ae_title = {stat_ae_title}
# Loopback serves this machine alone. DICOM has no passwords: open it to the modalities' network only.
host = {host}
port = {port}
# any_peer = true    # take images from AE titles that no [[peer]] names

# DICOM over TLS, certificates on both sides (BCP 195):
# [dicom.tls]
# certificate = "gateway.pem"
# key = "gateway.key"
# authorities = "hospital-ca.pem"

# Who may send to us. With host and port a peer is asked how many images a series has (C-FIND).
{peers}
# host = "10.0.0.5"
# port = 104
# stat = true        # all it sends is STAT

[http]
# STOW-RS, /v1/read, /v1/studies, metrics; 0 switches it off. Any address but loopback needs [http.tls].
port = {http_port}
# host = "0.0.0.0"
# token_file = "tokens"    # one "name token" a line

[intake]
# Below this much free room on the disk nothing more is taken, so that what was taken can be finished.
watermark_free_bytes = 2_147_483_648

[triton]
url = {triton_url}

[retention]
# Hours that images stay after their results were delivered, and days that UIDs and timelines stay.
pixels_h = 24
metadata_days = 90

# Where results go.
[[destination]]
name = "pacs"
ae_title = {pacs_ae_title}
host = {pacs_host}
port = {pacs_port}
# sr = "comprehensive"     # or "enhanced", "none": for a PACS that does not take Comprehensive 3D SR
# capture = false          # no Secondary Capture
# seg = false              # no Segmentation of CT and MR series
# verify = "find"          # or "none": for a PACS without storage commitment

# Which pipeline reads what; the first rule that matches counts. Lists are globs, any of them will do; "" is an
# attribute that is empty. What no rule matches is kept and shown (wetread gateway queue), not read.
[[rule]]
name = "chest films"
pipeline = "chest_xray"
destinations = ["pacs"]
priority = "routine"       # or "urgent", "stat"
[rule.match]
modality = ["DX", "CR", "RG"]
body_part = ["*CHEST*", "*THORAX*", ""]
# study_description_regex = "(?i)thora|chest"
"""
