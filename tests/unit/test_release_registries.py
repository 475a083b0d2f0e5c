import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from draft_cases import ACTOR, PIPELINE, write_draft
from wetread_release import durable
from wetread_release.assemble import assemble
from wetread_release.contents import contents, verified_folder
from wetread_release.digest import folder_digests
from wetread_release.errors import Absent, BadDraft, RegistryAway, ReleaseError, Untrusted
from wetread_release.registries import fetch_verified, open_registry, verified
from wetread_release.registry import MANIFEST, SIGNATURE
from wetread_release.signing import ensure_key, sign, trusted_folder

WEIGHTS = "parts/classifier/data.json"


@pytest.fixture(scope="session")
def s3_endpoint():
    server = pytest.importorskip("moto.server", reason="no moto: S3 is not tested")
    pytest.importorskip("s3fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(params=["folder", "memory", "s3"])
def registry(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return open_registry(str(tmp_path / "registry"))
    if request.param == "memory":
        return open_registry(f"memory://{tmp_path.name}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_endpoint"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tester")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-no-worth")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return open_registry(f"s3://hospital/{tmp_path.name}")


@pytest.fixture
def keys(tmp_path):
    ensure_key(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def release(tmp_path, registry, keys):
    """Make a release that is ready to be put."""

    def make(number: int = 1, weights: str = "first"):
        draft = write_draft(tmp_path / f"draft-{number}-{weights}", weights=weights)
        into = tmp_path / f"release-{number}-{weights}"
        return assemble(draft, registry, None, number, "", ACTOR, keys=keys, into=into)

    return make


def resign(folder: Path, keys: Path, **changed: object) -> None:
    """Change a release's manifest as somebody with a trusted key could."""
    manifest = replace(verified_folder(folder, trusted_folder(keys)), **changed)
    (folder / MANIFEST).write_bytes(manifest.dump())
    (folder / SIGNATURE).write_bytes(sign(manifest.dump(), keys))


class TestPutAndFetch:
    @pytest.mark.slow
    def test_what_was_put_comes_back_whole(self, registry, release, keys, tmp_path):
        made = release()
        registry.put(PIPELINE, 1, made.folder)
        assert fetch_verified(registry, PIPELINE, 1, tmp_path / "copy", trusted_folder(keys)) == made.manifest
        assert folder_digests(tmp_path / "copy") == folder_digests(made.folder)
        assert registry.manifest(PIPELINE, 1)[0] == made.manifest

    @pytest.mark.slow
    def test_releases_are_listed_in_order_of_number(self, registry, release):
        assert registry.pipelines() == registry.releases(PIPELINE) == ()
        for number in (10, 9, 2):
            registry.put(PIPELINE, number, release(number).folder)
        assert registry.releases(PIPELINE) == (2, 9, 10)
        assert registry.pipelines() == (PIPELINE,)

    @pytest.mark.slow
    def test_what_is_published_never_changes(self, registry, release, keys, tmp_path):
        registry.put(PIPELINE, 1, release(1, "first").folder)
        with pytest.raises(BadDraft, match="never changes"):
            registry.put(PIPELINE, 1, release(1, "second").folder)
        fetch_verified(registry, PIPELINE, 1, tmp_path / "copy", trusted_folder(keys))
        assert (tmp_path / "copy" / WEIGHTS).read_text() == "first"

    @pytest.mark.slow
    def test_a_release_that_is_not_there_is_named_with_those_that_are(self, registry, release, tmp_path):
        registry.put(PIPELINE, 3, release(3).folder)
        with pytest.raises(Absent, match=r"no release 4 of probe in .* \(there: 3\)"):
            registry.manifest(PIPELINE, 4)
        with pytest.raises(Absent):
            registry.fetch(PIPELINE, 4, tmp_path / "copy")

    def test_a_folder_of_another_release_is_not_put(self, registry, release):
        with pytest.raises(BadDraft, match="that of probe release 1"):
            registry.put(PIPELINE, 2, release(1).folder)

    @pytest.mark.parametrize("damage", ["changed", "missing", "extra", "unsigned"])
    def test_a_damaged_folder_is_not_put(self, registry, release, damage):
        folder = release().folder
        if damage == "changed":
            (folder / WEIGHTS).write_text("other")
        elif damage == "extra":
            (folder / "parts" / "classifier" / "model.py").write_text("")
        else:
            (folder / (WEIGHTS if damage == "missing" else SIGNATURE)).unlink()
        with pytest.raises(BadDraft):
            registry.put(PIPELINE, 1, folder)
        assert registry.releases(PIPELINE) == ()

    @pytest.mark.slow
    def test_hidden_files_are_left_behind(self, registry, release, tmp_path):
        folder = release().folder
        (folder / "parts" / "classifier" / ".editor-swap").write_text("secret")
        registry.put(PIPELINE, 1, folder)
        registry.fetch(PIPELINE, 1, tmp_path / "copy")
        assert not (tmp_path / "copy" / "parts" / "classifier" / ".editor-swap").exists()

    @pytest.mark.slow
    def test_nothing_is_fetched_over_what_is_there(self, registry, release, tmp_path):
        registry.put(PIPELINE, 1, release().folder)
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "precious").write_text("mine")
        with pytest.raises(BadDraft, match="there already"):
            registry.fetch(PIPELINE, 1, tmp_path / "copy")
        assert (tmp_path / "copy" / "precious").read_text() == "mine"

    @pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "/etc", "a\\b"])
    def test_a_name_that_leaves_the_registry_is_refused(self, registry, release, name, tmp_path):
        for call in (
            lambda: registry.releases(name),
            lambda: registry.manifest(name, 1),
            lambda: registry.fetch(name, 1, tmp_path / "copy"),
        ):
            with pytest.raises(BadDraft, match="no pipeline's name"):
                call()


class Tampered:
    """A local registry with one release in it, to be changed behind its back."""

    def __init__(self, root: Path, keys: Path, folder: Path) -> None:
        self.registry = open_registry(str(root))
        self.registry.put(PIPELINE, 1, folder)
        self.folder = root / PIPELINE / "1"
        self.trusted = trusted_folder(keys)

    def fetch(self, into: Path) -> None:
        fetch_verified(self.registry, PIPELINE, 1, into, self.trusted)


@pytest.mark.parametrize("registry", ["folder"], indirect=True)
class TestTampering:
    @pytest.fixture
    def tampered(self, tmp_path, keys, release):
        return Tampered(tmp_path / "registry", keys, release().folder)

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path):
        yield
        left = [path.name for path in tmp_path.iterdir() if "copy" in path.name]
        assert not left, "a release that was refused must not lie around"

    @pytest.mark.parametrize("path", [WEIGHTS, "build.json", "gate/report.html"])
    def test_a_changed_file_is_refused_by_name(self, tampered, tmp_path, path):
        (tampered.folder / path).write_text("other")
        with pytest.raises(BadDraft, match=rf"{path}.*changed"):
            tampered.fetch(tmp_path / "copy")

    def test_an_extra_file_is_refused_by_name(self, tampered, tmp_path):
        (tampered.folder / "parts" / "classifier" / "model.py").write_text("import os")
        with pytest.raises(BadDraft, match=r"does not name: parts/classifier/model\.py"):
            tampered.fetch(tmp_path / "copy")

    def test_a_missing_file_is_refused_by_name(self, tampered, tmp_path):
        (tampered.folder / WEIGHTS).unlink()
        with pytest.raises(BadDraft, match=f"lacks {WEIGHTS}"):
            tampered.fetch(tmp_path / "copy")

    def test_a_changed_manifest_is_not_trusted(self, tampered, tmp_path):
        manifest = (tampered.folder / MANIFEST).read_bytes()
        (tampered.folder / MANIFEST).write_bytes(manifest.replace(b"tester", b"nobody"))
        for call in (
            lambda: verified(tampered.registry, PIPELINE, 1, tampered.trusted),
            lambda: tampered.fetch(tmp_path / "copy"),
        ):
            with pytest.raises(Untrusted, match="changed after it was signed"):
                call()

    def test_a_missing_signature_is_said(self, tampered):
        (tampered.folder / SIGNATURE).unlink()
        with pytest.raises(Untrusted, match="not signed"):
            verified(tampered.registry, PIPELINE, 1, tampered.trusted)

    def test_a_release_under_another_number_is_refused(self, tampered, tmp_path):
        shutil.copytree(tampered.folder, tampered.folder.with_name("2"))
        with pytest.raises(BadDraft, match="that of probe release 1"):
            fetch_verified(tampered.registry, PIPELINE, 2, tmp_path / "copy", tampered.trusted)

    @pytest.mark.parametrize(
        "path",
        [
            "../escaped",
            "/tmp/escaped",
            "gate/../../escaped",
            "gate//x",
            "gate/.hidden",
            "a\\b",
            "",
            "manifest.json",
            "a\nb",
        ],
    )
    def test_a_signed_path_that_leaves_the_folder_is_refused(self, tampered, keys, tmp_path, path):
        """Also a key that is trusted may not write where it likes."""
        made = verified(tampered.registry, PIPELINE, 1, tampered.trusted)
        resign(tampered.folder, keys, evidence={**made.evidence, path: "0" * 64})
        with pytest.raises(BadDraft, match="no release may hold"):
            tampered.fetch(tmp_path / "copy")

    def test_a_part_that_leaves_the_folder_is_refused(self, tampered, keys, tmp_path):
        made = verified(tampered.registry, PIPELINE, 1, tampered.trusted)
        parts = tuple(replace(part, folder="../../escaped") for part in made.parts)
        with pytest.raises(BadDraft, match="no release may hold"):
            contents(replace(made, parts=parts))

    def test_two_hashes_for_one_file_are_refused(self, tampered):
        made = verified(tampered.registry, PIPELINE, 1, tampered.trusted)
        with pytest.raises(BadDraft, match="two hashes"):
            contents(replace(made, evidence={**made.evidence, WEIGHTS: "0" * 64}))

    def test_a_later_change_of_the_copy_is_found(self, tampered, tmp_path):
        tampered.fetch(tmp_path / "fetched")
        (tmp_path / "fetched" / WEIGHTS).write_text("other")
        with pytest.raises(BadDraft, match=WEIGHTS):
            verified_folder(tmp_path / "fetched", tampered.trusted)


@pytest.mark.parametrize("registry", ["folder"], indirect=True)
class TestCrashes:
    def test_what_a_killed_writer_left_is_no_release_and_goes(self, registry, release, tmp_path):
        left = tmp_path / "registry" / PIPELINE / ".1.partial"
        left.mkdir(parents=True)
        (left / MANIFEST).write_text("half")
        assert registry.releases(PIPELINE) == ()
        registry.put(PIPELINE, 1, release().folder)
        assert registry.releases(PIPELINE) == (1,)
        assert not left.exists()

    @pytest.mark.slow
    @pytest.mark.parametrize("call", ["fsync", "rename"])
    def test_a_kill_at_any_write_leaves_all_or_nothing(self, registry, release, tmp_path, keys, call):
        """A child is killed at its first, second, ... call until one comes through."""
        folder = release().folder
        for count in range(1, 60):
            ended = subprocess.run(
                [sys.executable, "-c", _KILLED, str(tmp_path / "registry"), folder, call, str(count)],
                check=False,
            )
            if ended.returncode == 0:
                break
            assert ended.returncode == -signal.SIGKILL
            assert registry.releases(PIPELINE) == () or verified(registry, PIPELINE, 1, trusted_folder(keys))
            shutil.rmtree(tmp_path / "registry" / PIPELINE / "1", ignore_errors=True)
        else:
            pytest.fail("the child never came through")
        assert count > 1
        fetch_verified(registry, PIPELINE, 1, tmp_path / "copy", trusted_folder(keys))

    def test_everything_is_on_disk_before_it_is_in_its_place(self, registry, release, monkeypatch):
        synced, placed = set(), []
        fsync, rename = os.fsync, Path.rename

        def noting_fsync(descriptor: int) -> None:
            synced.add(Path(f"/proc/self/fd/{descriptor}").readlink())
            fsync(descriptor)

        def noting_rename(path: Path, target: Path) -> Path:
            placed.append({path, *path.rglob("*")} - synced)
            return rename(path, target)

        monkeypatch.setattr(durable.os, "fsync", noting_fsync)
        monkeypatch.setattr(Path, "rename", noting_rename)
        registry.put(PIPELINE, 1, release().folder)
        assert placed == [set()]


class TestRemote:
    @pytest.mark.slow
    @pytest.mark.parametrize("registry", ["memory", "s3"], indirect=True)
    def test_files_without_a_manifest_are_no_release_and_go(self, registry, release, tmp_path):
        made = release()
        registry.put(PIPELINE, 1, made.folder)
        files, root = registry._files, registry._root
        files.rm(f"{root}/{PIPELINE}/1/{MANIFEST}")
        files.pipe_file(f"{root}/{PIPELINE}/1/left_over.json", b"{}")
        assert registry.releases(PIPELINE) == registry.pipelines() == ()
        registry.put(PIPELINE, 1, made.folder)
        registry.fetch(PIPELINE, 1, tmp_path / "copy")  # refuses files too many

    @pytest.mark.slow
    @pytest.mark.parametrize("registry", ["memory", "s3"], indirect=True)
    def test_the_manifest_is_put_last(self, registry, release, monkeypatch):
        put = []
        for name in ("put_file", "pipe_file"):
            real = getattr(registry._files, name)
            monkeypatch.setattr(
                registry._files,
                name,
                lambda *a, _real=real, _at=(1 if name == "put_file" else 0), **k: (put.append(a[_at]), _real(*a, **k)),
            )
        registry.put(PIPELINE, 1, release().folder)
        assert put[-1].endswith(MANIFEST)
        assert put[-2].endswith(SIGNATURE)

    @pytest.mark.slow
    @pytest.mark.parametrize("registry", ["s3"], indirect=True)
    def test_of_two_writers_at_once_one_has_the_number(self, registry, release, monkeypatch):
        """The other one puts its manifest after our look and before our own."""
        first, second = release(1, "first"), release(1, "second")
        real = registry._files.exists
        monkeypatch.setattr(
            registry._files, "exists", lambda path, **k: False if path.endswith(MANIFEST) else real(path, **k)
        )
        registry._files.pipe_file(f"{registry._root}/{PIPELINE}/1/elsewhere", b"")
        monkeypatch.setattr(registry._files, "rm", lambda *a, **k: None)
        registry.put(PIPELINE, 1, first.folder)
        with pytest.raises(BadDraft, match="never changes"):
            registry.put(PIPELINE, 1, second.folder)
        assert registry.manifest(PIPELINE, 1)[0] == first.manifest

    @pytest.mark.slow
    @pytest.mark.parametrize("registry", ["s3"], indirect=True)
    def test_what_another_machine_put_is_seen(self, registry, release):
        assert registry.releases(PIPELINE) == ()
        other = open_registry(registry.where)
        other.put(PIPELINE, 1, release().folder)
        assert registry.releases(PIPELINE) == (1,)

    @pytest.mark.parametrize("registry", ["memory"], indirect=True)
    def test_an_address_that_does_not_answer_is_named(self, registry, monkeypatch, tmp_path):
        def fail(*_args: object, **_options: object) -> None:
            raise ConnectionError("nobody there")

        monkeypatch.setattr(registry._files, "cat_file", fail)
        with pytest.raises(RegistryAway, match=r"memory://.*nobody there"):
            registry.manifest(PIPELINE, 1)
        with pytest.raises(OSError, match="nobody there"):  # for who only thinks of folders
            registry.fetch(PIPELINE, 1, tmp_path / "copy")

    def test_an_unknown_scheme_is_named(self):
        with pytest.raises(ReleaseError, match="gopher://old"):
            open_registry("gopher://old/releases")

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        with pytest.raises(RegistryAway, match="cannot be used now"):
            open_registry(str(tmp_path / "file" / "registry")).put(PIPELINE, 1, self._folder(tmp_path))

    def _folder(self, tmp_path):
        ensure_key(tmp_path / "keys")
        draft, into = write_draft(tmp_path / "draft"), tmp_path / "release"
        registry = open_registry(str(tmp_path / "none"))
        return assemble(draft, registry, None, 1, "", ACTOR, keys=tmp_path / "keys", into=into).folder


_KILLED = f"""
import os, signal, sys
from pathlib import Path
from wetread_release.registries import open_registry
root, folder, call, count = sys.argv[1:]
owner = os if call == "fsync" else Path
real, left = getattr(owner, call), [int(count)]
def counted(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(owner, call, counted)
open_registry(root).put({PIPELINE!r}, 1, Path(folder))
"""
