import base64
import json
import multiprocessing
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from wetread_release.errors import Absent, ReleaseError, Untrusted
from wetread_release.signing import SIGNING_KEY, _load_private, ensure_key, key_info, sign, trusted_folder, verify

DOCUMENT = b'{"release": 7}'


@pytest.fixture(params=["ed25519", "ml-dsa-65"])
def algorithm(request):
    if request.param == "ml-dsa-65":
        pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mldsa", reason="cryptography without ML-DSA")
    return request.param


@pytest.fixture
def keys(tmp_path, algorithm):
    ensure_key(tmp_path / "keys", algorithm)
    return tmp_path / "keys"


class TestKeys:
    def test_a_key_is_made_once_and_stays(self, keys, algorithm):
        before = key_info(keys)
        assert before.algorithm == algorithm
        assert ensure_key(keys) == before.id == ensure_key(keys, "ml-dsa-65")

    def test_only_its_owner_can_read_it(self, keys):
        assert stat.S_IMODE((keys / SIGNING_KEY).stat().st_mode) == 0o600

    def test_making_it_leaves_nothing_half_written(self, keys):
        found = sorted(path.name for path in keys.rglob("*") if path.is_file())
        assert found == sorted([SIGNING_KEY, f"{key_info(keys).id}.pem"])

    @pytest.mark.slow
    def test_processes_at_once_agree_on_one_key(self, tmp_path):
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            made = pool.map(ensure_key, [tmp_path] * 8)
        assert set(made) == {key_info(tmp_path).id}
        assert [path.stem for path in trusted_folder(tmp_path).iterdir()] == [made[0]]

    def test_a_key_that_is_not_trusted_any_more_stays_so(self, keys):
        next(trusted_folder(keys).iterdir()).unlink()
        ensure_key(keys)
        with pytest.raises(Untrusted, match="not trusted here"):
            verify(DOCUMENT, sign(DOCUMENT, keys), trusted_folder(keys))

    def test_an_unknown_algorithm_is_refused(self, tmp_path):
        with pytest.raises(ReleaseError, match="ed25519 or ml-dsa-65"):
            ensure_key(tmp_path, "rsa")

    def test_without_a_key_nothing_is_signed(self, tmp_path):
        with pytest.raises(Absent, match="wetread release keygen"):
            sign(DOCUMENT, tmp_path)

    @pytest.mark.parametrize(
        "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
    )
    def test_a_broken_key_is_named(self, tmp_path, content):
        (tmp_path / SIGNING_KEY).write_bytes(content)
        with pytest.raises(ReleaseError, match="cannot be read"):
            sign(DOCUMENT, tmp_path)

    def test_a_key_of_another_kind_is_named(self, tmp_path):
        (tmp_path / SIGNING_KEY).write_bytes(_p256_pem())
        with pytest.raises(ReleaseError, match="neither Ed25519 nor ML-DSA-65"):
            sign(DOCUMENT, tmp_path)


class TestVerify:
    def test_what_was_signed_is_trusted(self, keys):
        assert verify(DOCUMENT, sign(DOCUMENT, keys), trusted_folder(keys)) == key_info(keys).id

    @pytest.mark.parametrize("place", range(len(DOCUMENT)))
    def test_every_changed_byte_is_found(self, keys, place):
        changed = bytearray(DOCUMENT)
        changed[place] ^= 1
        with pytest.raises(Untrusted, match="changed after it was signed"):
            verify(bytes(changed), sign(DOCUMENT, keys), trusted_folder(keys))

    def test_another_key_is_not_trusted(self, keys, tmp_path):
        ensure_key(tmp_path / "stranger")
        with pytest.raises(Untrusted, match="not trusted here"):
            verify(DOCUMENT, sign(DOCUMENT, tmp_path / "stranger"), trusted_folder(keys))

    def test_another_key_under_a_trusted_name_does_not_fit(self, keys, tmp_path, algorithm):
        ensure_key(tmp_path / "stranger", algorithm)
        claimed = _with(sign(DOCUMENT, tmp_path / "stranger"), key=key_info(keys).id)
        with pytest.raises(Untrusted, match="does not fit"):
            verify(DOCUMENT, claimed, trusted_folder(keys))

    def test_the_key_decides_the_algorithm(self, keys, algorithm):
        other = {"ed25519": "ml-dsa-65", "ml-dsa-65": "ed25519"}[algorithm]
        with pytest.raises(Untrusted, match="claims"):
            verify(DOCUMENT, _with(sign(DOCUMENT, keys), algorithm=other), trusted_folder(keys))

    def test_a_signature_of_the_bare_document_is_none(self, keys):
        """A key that also signs something else must not sign releases by it."""
        bare = base64.b64encode(_load_private(keys).sign(DOCUMENT)).decode()
        with pytest.raises(Untrusted, match="does not fit"):
            verify(DOCUMENT, _with(sign(DOCUMENT, keys), signature=bare), trusted_folder(keys))

    @pytest.mark.parametrize(
        "signature",
        [b"", b"\xff", b"[]", b"{}", b"null", b'{"schema": 1, "algorithm": "ed25519", "key": "a", "signature": "*"}'],
    )
    def test_what_is_no_signature_is_refused(self, keys, signature):
        with pytest.raises(Untrusted):
            verify(DOCUMENT, signature, trusted_folder(keys))

    def test_another_schema_is_named(self, keys):
        with pytest.raises(Untrusted, match="schema 2"):
            verify(DOCUMENT, _with(sign(DOCUMENT, keys), schema=2), trusted_folder(keys))

    @pytest.mark.parametrize("length", [0, 1, 63, 65])
    def test_a_signature_of_another_length_is_refused(self, keys, length):
        short = base64.b64encode(bytes(length)).decode()
        with pytest.raises(Untrusted, match="does not fit"):
            verify(DOCUMENT, _with(sign(DOCUMENT, keys), signature=short), trusted_folder(keys))

    def test_trust_in_nobody_is_said(self, keys, tmp_path):
        with pytest.raises(Untrusted, match="trusted: none"):
            verify(DOCUMENT, sign(DOCUMENT, keys), tmp_path / "nowhere")

    def test_a_trusted_file_that_holds_no_key_is_named(self, keys):
        (trusted_folder(keys) / "broken.pem").write_text("no key")
        with pytest.raises(Untrusted, match=r"broken\.pem"):
            verify(DOCUMENT, sign(DOCUMENT, keys), trusted_folder(keys))

    def test_trusted_keys_may_have_any_name(self, keys):
        path = next(trusted_folder(keys).iterdir())
        path.rename(path.with_name("the radiology department.pem"))
        verify(DOCUMENT, sign(DOCUMENT, keys), trusted_folder(keys))


def _with(signed: bytes, **changed: object) -> bytes:
    return json.dumps({**json.loads(signed), **changed}).encode()


def _p256_pem() -> bytes:
    private = ec.generate_private_key(ec.SECP256R1())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
