"""Every setting, its unit, its default and the reason for it; docs/gateway-settings.md is made from this file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from wetread_gateway.priority import Priority

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS as BCP 195 has it: 1.2 or later, certificates on both sides."""

    certificate: Path
    """PEM file of our certificate and its chain."""
    key: Path
    """PEM file of our private key; readable by this user alone."""
    authorities: Path
    """PEM file of the authorities whose certificates the other side must show."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where the gateway keeps what it must not lose."""

    state_dir: Path
    """Folder of spool, state store and audit. One file system: an instance moves by renaming."""
    store: str = ""
    """Empty for SQLite in the state folder; `postgresql+psycopg://...` when several gateways share a store."""
    store_file: Path | None = None
    """File whose first line is the store's address, in place of `store`: it may hold a password."""
    name: str = ""
    """This intake's name where several share a store (or by `--name`); the state folder keeps it for good."""
    sibling_url: str = ""
    """HTTP door of any intake, such as `https://{name}.wetread-intake:8080`: films of its spool are fetched there."""
    sibling_token_file: Path | None = None
    """File whose first line is the bearer token shown to the other intakes."""
    sibling_authorities: Path | None = None
    """PEM file of the authorities that sign the other intakes' certificates; without it the system's."""
    reporters: int = 1
    """Processes that build reports; one takes about 40 films a second."""
    reader: bool = True
    """Read here. Without it readers elsewhere lease the work at the HTTP door (`wetread gateway reader`)."""
    drain_s: float = 20.0
    """Seconds that open associations and work under way are given when the gateway stops."""


@dataclass(frozen=True, slots=True)
class Dicom:
    """The DICOM door."""

    ae_title: str = "WETREAD"
    """Our AE title, in requests to us and from us."""
    stat_ae_title: str = "WETREAD_STAT"
    """A second AE title of ours: what is sent to it is STAT."""
    host: str = "127.0.0.1"
    """Address to listen on. DICOM has no passwords: open it to the network of the modalities only, better with TLS."""
    port: int = 11112
    """Port to listen on (11112 is registered for DICOM)."""
    receivers: int = 2
    """Receiving processes on that port."""
    max_associations: int = 32
    """Open associations of one receiving process; more are refused as a temporary congestion."""
    reserved_for_stat: int = 4
    """Associations beyond those that only STAT may take."""
    max_pdu: int = 131072
    """Largest P-DATA PDU taken, in bytes (DCMTK sends no larger one)."""
    artim_s: float = 10.0
    """Seconds that a peer has for its A-ASSOCIATE-RQ, and for closing (PS3.8, 9.1.5)."""
    idle_s: float = 60.0
    """Seconds that an association may be silent between two messages."""
    slowest_bytes_per_s: int = 4096
    """A peer that sends a message slower than this, over `artim_s`, is dropped."""
    any_peer: bool = False
    """Take associations from calling AE titles that no `[[peer]]` names."""
    tls: Tls | None = None
    """TLS for the DICOM door; without it the door is plain DICOM."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An AE that may call us."""

    ae_title: str
    """Its calling AE title."""
    host: str = ""
    """Its address, checked when given, and where it is asked for counts (C-FIND)."""
    port: int = 0
    """Its port, for C-FIND; 0: it is never asked."""
    stat: bool = False
    """All it sends is STAT."""
    tls: bool = False
    """Ask it over TLS, with the certificate of `[dicom.tls]`."""


@dataclass(frozen=True, slots=True)
class HttpTls:
    """TLS of the HTTP door, 1.2 or later."""

    certificate: Path
    """PEM file of our certificate and its chain."""
    key: Path
    """PEM file of our private key; readable by this user alone."""
    authorities: Path | None = None
    """PEM file of the authorities whose certificates clients must show; without it the door needs `token_file`."""


@dataclass(frozen=True, slots=True)
class Http:
    """The HTTP door: STOW-RS, /v1/read, /v1/studies, metrics, leases."""

    host: str = "127.0.0.1"
    """Address to listen on; any but loopback needs `tls` and (`authorities` in it or `token_file`)."""
    port: int = 8080
    """Port to listen on; 0 switches the HTTP door off."""
    token_file: Path | None = None
    """File of bearer tokens, one a line with its name: `name token`. Asked for on every request but /healthz and
    /readyz."""
    tls: HttpTls | None = None
    """TLS for the HTTP door."""
    max_body_bytes: int = 2 << 30
    """Largest body of a request."""
    max_connections: int = 256
    """Open connections; more are closed at once."""
    patience_s: float = 10.0
    """Seconds that the head of a request may take."""
    slowest_bytes_per_s: int = 4096
    """A client that sends a body slower than this, over `patience_s`, is answered 408."""


@dataclass(frozen=True, slots=True)
class Intake:
    """When the doors say no."""

    watermark_free_bytes: int = 2 << 30
    """Free bytes on the spool's disk below which nothing more is taken (0xA700, 507)."""
    overload_age_s: float = 30.0
    """Age of the oldest unread routine work, or time to the report of a film that came now, above which only STAT is
    taken (429)."""
    overload_series_age_s: float = 600.0
    """The same of a series of several images, which takes longer to read than a film."""


@dataclass(frozen=True, slots=True)
class Completeness:
    """When a study of several images is whole."""

    single_image_modalities: tuple[str, ...] = ("CR", "DX", "RG", "MG", "IO", "PX", "XA", "RF", "US", "OT")
    """Modalities whose instances are read one by one, at once."""
    quiet_confirmed_s: float = 2.0
    """Seconds of silence after the expected count is reached."""
    quiet_s: float = 15.0
    """Seconds of silence without a count, and with no association of that peer open."""


@dataclass(frozen=True, slots=True)
class Triton:
    """The server that reads."""

    url: str = "http://127.0.0.1:8000"
    """Triton's address; `https`, `grpc` and `grpcs` too."""
    concurrency: int = 4
    """Films under way at once; one more slot is kept for STAT."""
    deadline_s: float = 30.0
    """Seconds that one film may take."""
    series_deadline_s: float = 300.0
    """Seconds that one series may take, where the pipeline takes series whole; its lease is kept meanwhile."""
    lease_s: float = 60.0
    """Seconds after which the work of a reader that has not been heard of is given to another."""
    attempts: int = 3
    """How often a film is read alone after a server error, before it goes to the dead letter."""
    rollouts: str = ""
    """Where `wetread rollout` keeps who is read by what: a folder (/...), `etcd://host:port/prefix`; or not at all."""
    shadows: int = 64
    """Films that may wait to be read by a candidate in shadow; beyond, the oldest are dropped and counted."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go."""

    name: str
    """Its name in rules, logs and commands."""
    kind: Literal["dimse", "stow"] = "dimse"
    """C-STORE or STOW-RS."""
    ae_title: str = ""
    """Its AE title (dimse)."""
    host: str = ""
    """Its address (dimse)."""
    port: int = 104
    """Its port (dimse)."""
    tls: bool = False
    """Over TLS, with the certificate of `[dicom.tls]` (dimse)."""
    url: str = ""
    """Its DICOMweb root (stow)."""
    token_file: Path | None = None
    """File whose first line is the bearer token sent to it (stow)."""
    authorities: Path | None = None
    """PEM file of the authorities that sign its certificate (stow over https)."""
    sr: Literal["comprehensive3d", "comprehensive", "enhanced", "none"] = "comprehensive3d"
    """The richest structured report it takes."""
    capture: bool = True
    """Whether it gets a Secondary Capture."""
    seg: bool = True
    """Whether it gets a Segmentation (DICOM SEG) where the pipeline makes one; the report refers to it."""
    fhir: bool = False
    """Whether a FHIR DiagnosticReport is written beside the objects, in the spool's `results` folder."""
    verify: Literal["commitment", "find", "qido", "none"] = "commitment"
    """How it is asked whether it holds our objects: storage commitment, C-FIND, QIDO-RS, or not at all."""
    concurrency: int = 2
    """Associations (or connections) to it at once; one more is kept for STAT."""
    timeout_s: float = 30.0
    """Seconds without an answer after which an attempt has failed."""
    commitment_wait_s: float = 60.0
    """Seconds to wait for a commitment report before asking anew."""
    give_up_after_h: float = 72.0
    """Hours of attempts after which a delivery goes to the dead letter."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a rule asks of an instance; every key given must hold. Globs unless the key ends in `_regex`."""

    modality: tuple[str, ...] = ()
    """Modality (0008,0060)."""
    body_part: tuple[str, ...] = ()
    """Body Part Examined (0018,0015)."""
    view: tuple[str, ...] = ()
    """View Position (0018,5101)."""
    calling_ae: tuple[str, ...] = ()
    """AE title of the sender."""
    called_ae: tuple[str, ...] = ()
    """AE title that it called."""
    study_description: tuple[str, ...] = ()
    """Study Description (0008,1030)."""
    series_description: tuple[str, ...] = ()
    """Series Description (0008,103E)."""
    study_description_regex: str = ""
    """Regular expression that must be found in Study Description."""
    series_description_regex: str = ""
    """Regular expression that must be found in Series Description."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Which pipeline reads what, how soon, and where the results go. The first rule that matches counts."""

    name: str
    """Its name in logs, timelines and `explain`."""
    pipeline: str = ""
    """The pipeline that reads it; empty: kept and shown, not read."""
    match: Match = field(default_factory=Match)
    """What must hold."""
    priority: Literal["stat", "urgent", "routine"] = "routine"
    """How soon; what came in as STAT stays STAT."""
    destinations: tuple[str, ...] = ()
    """Names of `[[destination]]` tables."""
    any_body_part: bool = False
    """Read it whatever Body Part Examined says."""
    unknown_age_is_inside: bool = False
    """Take a patient of unknown age for one of the intended use."""
    report_refusals: bool = True
    """Send a result of its own kind when the pipeline refuses a film."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept."""

    pixels_h: float = 24.0
    """Hours that images and results stay in the spool after delivery."""
    unmatched_days: float = 30.0
    """Days that images which no rule wants stay in the spool, where `queue` shows them."""
    metadata_days: float = 90.0
    """Days that UIDs and timelines stay; the window in which a duplicate is known."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration."""

    gateway: Gateway
    dicom: Dicom = field(default_factory=Dicom)
    http: Http = field(default_factory=Http)
    intake: Intake = field(default_factory=Intake)
    completeness: Completeness = field(default_factory=Completeness)
    triton: Triton = field(default_factory=Triton)
    retention: Retention = field(default_factory=Retention)
    peer: tuple[Peer, ...] = ()
    destination: tuple[Destination, ...] = ()
    rule: tuple[Rule, ...] = ()

    def priority_of(self, rule: Rule, *, stat: bool) -> Priority:
        """Give the priority of what `rule` matches; `stat`: it was STAT at the door."""
        return Priority.STAT if stat else Priority[rule.priority.upper()]
