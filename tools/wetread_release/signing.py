"""Signatures of manifests: Ed25519, or ML-DSA-65 where the installed cryptography has it.

<keys>/signing.pem     private key (PKCS 8) of whoever publishes; only there
<keys>/trusted/*.pem   public keys whose releases are served; any file name

The signature document (manifest.sig) is JSON: schema, algorithm, key id, signature in base64. The trusted key decides
the algorithm, never the document.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from wetread_release.errors import Absent, ReleaseError, Untrusted

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

    PrivateKey = Ed25519PrivateKey | MLDSA65PrivateKey
    PublicKey = Ed25519PublicKey | MLDSA65PublicKey

Algorithm = Literal["ed25519", "ml-dsa-65"]

SCHEMA = 1
SIGNING_KEY, TRUSTED = "signing.pem", "trusted"
_CONTEXT = b"wetread release manifest 1\n"
"""Signed before the manifest, so that no signature of something else can pass for one of a manifest."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """Which key signs here."""

    id: str
    """First 16 hexadecimal digits of the SHA-256 of the public key (SubjectPublicKeyInfo, DER)."""
    algorithm: Algorithm


def trusted_folder(keys: Path) -> Path:
    """Give the folder of public keys whose releases are served."""
    return keys / TRUSTED


def ensure_key(keys: Path, algorithm: Algorithm = "ed25519") -> str:
    """Make a signing key, trusted here, unless there is one (of whatever algorithm); give its id.

    Raises:
        ReleaseError: this installation does not know the algorithm, or the folder cannot be written.
    """
    if (keys / SIGNING_KEY).exists():
        return key_info(keys).id
    private = _generate(algorithm)
    info = _info(private.public_key())
    try:
        trusted_folder(keys).mkdir(parents=True, exist_ok=True)
        # Trust first: a key that signs without being trusted would make releases that nobody serves.
        public = trusted_folder(keys) / f"{info.id}.pem"
        _write_new(public, _public_pem(private.public_key()), 0o644)
        if not _write_new(keys / SIGNING_KEY, _private_pem(private), 0o600):
            public.unlink()  # another process was first
            return key_info(keys).id
    except OSError as error:
        raise ReleaseError(f"no signing key can be made in {keys}: {error}") from error
    return info.id


def key_info(keys: Path) -> KeyInfo:
    """Tell which key signs here.

    Raises:
        Absent: there is none.
        ReleaseError: it cannot be read.
    """
    return _info(_load_private(keys).public_key())


def sign(document: bytes, keys: Path) -> bytes:
    """Sign a document with `<keys>/signing.pem`; give the signature document.

    Raises:
        Absent: there is no signing key.
        ReleaseError: it cannot be read.
    """
    private = _load_private(keys)
    info = _info(private.public_key())
    signature = private.sign(_CONTEXT + document)
    content = {"schema": SCHEMA, **_as_dict(info), "signature": base64.b64encode(signature).decode()}
    return (json.dumps(content, indent=1) + "\n").encode()


def verify(document: bytes, signature: bytes, trusted: Path) -> str:
    """Check a signature document against the public keys in the folder `trusted`; give the key's id.

    Raises:
        Untrusted: it is no signature of this document by one of these keys.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 -- the command line starts without

    algorithm, key_id, value = _parse(signature)
    keys = _trusted_keys(trusted)
    if key_id not in keys:
        known = ", ".join(sorted(keys)) or "none"
        raise Untrusted(
            f"signed by the key {key_id}, which is not trusted here (trusted: {known}): if you know its owner, put the "
            f"public key into {trusted}"
        )
    public = keys[key_id]
    if _info(public).algorithm != algorithm:
        raise Untrusted(f"the signature claims {algorithm}, the key {key_id} is {_info(public).algorithm}")
    try:
        public.verify(value, _CONTEXT + document)
    except InvalidSignature as error:
        raise Untrusted(
            f"the signature by the key {key_id} does not fit: the document was changed after it was signed"
        ) from error
    return key_id


def _parse(signature: bytes) -> tuple[str, str, bytes]:
    if not signature:
        raise Untrusted("it is not signed")
    try:
        content: dict[str, Any] = json.loads(signature)
        if content["schema"] != SCHEMA:
            raise Untrusted(f"the signature has schema {content['schema']!r}, this version reads {SCHEMA}")
        return str(content["algorithm"]), str(content["key"]), base64.b64decode(content["signature"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise Untrusted(f"the signature cannot be read: {error!r}") from error


def _trusted_keys(trusted: Path) -> dict[str, PublicKey]:
    """Load the public keys of a folder by id; a file that holds none is an error, or trust would silently shrink."""
    keys: dict[str, PublicKey] = {}
    for path in sorted(trusted.glob("*.pem")):
        try:
            public = _load_public(path.read_bytes())
        except OSError as error:
            raise Untrusted(f"{path} cannot be read: {error}") from error
        except ValueError as error:
            raise Untrusted(f"{path} holds no public key of a known kind: {error}") from error
        keys[_info(public).id] = public
    return keys


def _generate(algorithm: Algorithm) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 -- see verify
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    if algorithm == "ed25519":
        return Ed25519PrivateKey.generate()
    if algorithm != "ml-dsa-65":
        raise ReleaseError(f"there is no signature algorithm {algorithm}: ed25519 or ml-dsa-65")
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey  # noqa: PLC0415

        return MLDSA65PrivateKey.generate()
    except (ImportError, UnsupportedAlgorithm) as error:
        raise ReleaseError("the installed cryptography has no ML-DSA-65: update it, or use ed25519") from error


def _load_private(keys: Path) -> PrivateKey:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 -- see verify

    path = keys / SIGNING_KEY
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise Absent(f"there is no signing key {path}: `wetread release keygen` makes one") from error
    except (OSError, ValueError, TypeError) as error:
        raise ReleaseError(f"the signing key {path} cannot be read: {error}") from error
    if not _known(private.public_key()):
        raise ReleaseError(f"the signing key {path} is neither Ed25519 nor ML-DSA-65")
    return cast("PrivateKey", private)


def _load_public(pem: bytes) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 -- see verify
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        public = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not _known(public):
        raise ValueError("neither Ed25519 nor ML-DSA-65")
    return cast("PublicKey", public)


def _known(public: object) -> bool:
    return _algorithm(public) is not None


def _algorithm(public: object) -> Algorithm | None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 -- see verify

    if isinstance(public, Ed25519PublicKey):
        return "ed25519"
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey  # noqa: PLC0415
    except ImportError:  # cryptography before 45
        return None
    return "ml-dsa-65" if isinstance(public, MLDSA65PublicKey) else None


def _info(public: PublicKey) -> KeyInfo:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 -- see verify

    algorithm = _algorithm(public)
    assert algorithm is not None, "looked at when it was loaded"
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return KeyInfo(hashlib.sha256(der).hexdigest()[:16], algorithm)


def _as_dict(info: KeyInfo) -> dict[str, str]:
    return {"algorithm": info.algorithm, "key": info.id}


def _public_pem(public: PublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 -- see verify

    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _private_pem(private: PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 -- see verify
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_new(path: Path, content: bytes, mode: int) -> bool:
    """Write a file that is there whole or not at all; False when there is one already, which stays."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    return True
