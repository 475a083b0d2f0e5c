"""What the configuration says of several intakes: the store by a file, names, and where the films of others are."""

import pytest
from wetread_gateway.config.check import describe
from wetread_gateway.config.files import first_line, store_url
from wetread_gateway.config.live import LiveSettings
from wetread_gateway.config.load import load
from wetread_gateway.errors import ConfigError
from wetread_gateway.state.folder import claim
from wetread_gateway.supervisor import Supervisor

REST = "[dicom]\nany_peer = true\n"
GOOD = 'sibling_url = "https://{name}.wetread-intake:8080"\n'


@pytest.fixture
def file(tmp_path):
    (tmp_path / "token").write_text("secret-of-one-line\nmore\n")
    return tmp_path / "gateway.toml"


def read(file, lines, more=""):
    file.write_text(f'[gateway]\nstate_dir = "state"\n{lines}{REST}{more}')
    return load(file)


def only(file, lines, more=""):
    with pytest.raises(ConfigError) as caught:
        read(file, lines, more)
    (said,) = str(caught.value).splitlines()
    return said.removeprefix(f"{file}:")


def test_a_store_with_its_password_comes_by_a_file(file):
    url = "postgresql+psycopg://u:secret@h/d"
    (file.parent / "store").write_text(f"{url}\n")
    settings = read(file, 'store_file = "store"\n')
    assert store_url(settings.gateway) == url
    assert "store PostgreSQL" in "\n".join(describe(settings))
    assert store_url(read(file, "").gateway) == ""


@pytest.mark.parametrize(
    ("content", "lines", "told"),
    [
        ("mysql://u:secret@h/d", "", "'mysql' is no store of ours"),
        ("no url", "", "gateway.store_file is no address of a database"),
        ("", "", "gateway.store_file is no address of a database"),
        (None, "", "does not exist"),
        ("postgresql+psycopg://h/d", 'store = "postgresql+psycopg://h/d"\n', "name two stores"),
    ],
)
def test_a_store_file_that_cannot_be(file, content, lines, told):
    if content is not None:
        (file.parent / "store").write_text(content)
    said = only(file, f'store_file = "store"\n{lines}')
    assert said.startswith("3: ")
    assert told in said
    assert "secret" not in said


@pytest.mark.parametrize("name", ["a", "intake-0", "x" * 48])
def test_a_name_is_one_of_a_host(file, name):
    assert read(file, f'name = "{name}"\n').gateway.name == name


@pytest.mark.parametrize("name", ["A", "-a", "a-", "a.b", "x" * 49])
def test_what_is_no_name_of_an_intake(file, name):
    assert "an intake's name" in only(file, f'name = "{name}"\n')


def test_a_name_that_is_given_goes_before_the_file_s_and_stays_when_that_changes(file):
    read(file, 'name = "a"\n')
    live = LiveSettings(file, "b")
    file.write_text(file.read_text().replace('"a"', '"changed"'))
    assert live.poll()
    assert live.current.gateway.name == "b"


def test_processes_and_commands_go_by_the_name_that_the_folder_has(file):
    read(file, 'name = "a"\n')
    (file.parent / "state").mkdir()
    claim(file.parent / "state", "given")
    assert LiveSettings(file).current.gateway.name == "given"
    with pytest.raises(ConfigError, match="is the state folder of the intake 'given', not of 'a'"):
        Supervisor(file)


@pytest.mark.parametrize(
    ("lines", "more", "told"),
    [
        ('sibling_token_file = "token"\n', "", "is of no use without sibling_url"),
        ('sibling_url = "https://wetread:8080"\n', "", "does not hold {name} once"),
        ('sibling_url = "https://{name}.{zone}:8080"\n', "", "does not hold {name} once"),
        ('sibling_url = "ftp://{name}"\n', "", "is no address of a door"),
        ('sibling_url = "https://me:secret@{name}"\n', "", "holds a password"),
        ('sibling_url = "http://{name}.intake:8080"\n', "", "films would travel in the clear"),
        (GOOD, "[http]\nport = 0\n", "needs an HTTP door here too"),
    ],
)
def test_siblings_that_cannot_be(file, lines, more, told):
    said = only(file, lines, more)
    assert said.startswith("3: ")
    assert told in said


def test_siblings_and_their_token(file):
    settings = read(file, f'{GOOD}sibling_token_file = "token"\n')
    assert first_line(settings.gateway.sibling_token_file) == "secret-of-one-line"
    assert any("https://{name}.wetread-intake:8080" in line for line in describe(settings))
