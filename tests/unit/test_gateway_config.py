"""The configuration: what a file may say, and what the operator is told about one that is wrong."""

import dataclasses
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wetread_gateway.config import settings as settings_module
from wetread_gateway.config.bounds import AE_TITLE, BOUNDS, Range
from wetread_gateway.config.consistency import is_loopback
from wetread_gateway.config.lines import Lines
from wetread_gateway.config.load import load
from wetread_gateway.config.settings import Settings
from wetread_gateway.errors import ConfigError
from wetread_gateway.priority import Priority

LEAST = '[gateway]\nstate_dir = "state"\n[dicom]\nany_peer = true\n'
PACS = '[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\n'


@pytest.fixture
def file(tmp_path):
    return tmp_path / "gateway.toml"


def read(file, text) -> Settings:
    file.write_text(text)
    return load(file)


def mistakes(file, text) -> list[str]:
    """The lines that the operator is shown, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}:") for line in lines)
    return [line.removeprefix(f"{file}:") for line in lines]


def only(file, text) -> str:
    (mistake,) = mistakes(file, text)
    return mistake


class TestWhatAFileMaySay:
    def test_a_state_folder_and_peers_are_enough_and_the_rest_has_defaults(self, file):
        settings = read(file, LEAST)
        assert settings.gateway.state_dir == file.parent / "state"
        assert settings.dicom.port == 11112
        assert settings.http.host == "127.0.0.1"
        assert settings.rule == ()

    def test_lists_of_tables_nest(self, file):
        settings = read(
            file,
            LEAST
            + PACS
            + """
[[rule]]
name = "chest"
pipeline = "chest_xray"
priority = "urgent"
destinations = ["pacs"]
[rule.match]
modality = ["DX", "CR"]
[[rule]]
name = "rest"
match = { calling_ae = ["CT*"] }
""",
        )
        chest, rest = settings.rule
        assert chest.match.modality == ("DX", "CR")
        assert rest.match.calling_ae == ("CT*",)
        assert settings.priority_of(chest, stat=False) is Priority.URGENT
        assert settings.priority_of(chest, stat=True) is Priority.STAT

    def test_a_whole_number_serves_where_any_number_does(self, file):
        value = read(file, LEAST + "idle_s = 5\n").dicom.idle_s
        assert value == 5.0
        assert isinstance(value, float)

    def test_paths_are_relative_to_the_file_and_not_to_whoever_starts_it(self, file, monkeypatch, tmp_path):
        (tmp_path / "tokens").write_text("pacs secret\n")
        monkeypatch.chdir("/")
        assert read(file, LEAST + '[http]\ntoken_file = "tokens"\n').http.token_file == tmp_path / "tokens"

    def test_an_http_door_of_the_network_is_fine_with_tls(self, file, tmp_path):
        for name in ("cert", "key", "ca"):
            (tmp_path / f"{name}.pem").write_text("")
        tls = '[http.tls]\ncertificate = "cert.pem"\nkey = "key.pem"\nauthorities = "ca.pem"\n'
        assert read(file, LEAST + '[http]\nhost = "0.0.0.0"\n' + tls).http.tls.key == tmp_path / "key.pem"


class TestWhatTheOperatorIsTold:
    def test_a_file_that_is_not_there(self, file):
        with pytest.raises(ConfigError, match="no such file; `wetread gateway init"):
            load(file)

    def test_a_file_that_is_no_toml_with_its_line(self, file):
        assert only(file, "[gateway]\nstate_dir =\n").startswith("2: this is no TOML")

    def test_a_file_that_ends_too_soon(self, file):
        assert "this is no TOML" in only(file, '[gateway]\nstate_dir = "a')

    def test_a_file_that_is_no_text(self, file):
        file.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match="cannot be read as text"):
            load(file)

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            ("prot = 1", '5: unknown key \'prot\' in [dicom]; did you mean "port"?'),
            ("zzzzz = 1", "5: unknown key 'zzzzz' in [dicom]; known are ae_title, "),
            ("[dicm]\nport = 1", "5: unknown key 'dicm' at the top; did you mean \"dicom\"?"),
            ('port = "104"', "5: dicom.port is the text '104', not a whole number"),
            ("port = 104.0", "5: dicom.port is 104.0, not a whole number"),
            ("port = true", "5: dicom.port is true or false, not a whole number"),
            ("port = 70000", "5: dicom.port: 70000 is not between 1 and 65535; give another value (the def"),
            ("idle_s = nan", "5: dicom.idle_s: nan is not between"),
            ("idle_s = inf", "5: dicom.idle_s: inf is not between"),
            ("ae_title = 5", "5: dicom.ae_title is 5, not a text in quotes"),
            ('ae_title = "SEVENTEEN_LETTERS"', "5: dicom.ae_title: 'SEVENTEEN_LETTERS' is not an AE title"),
            ('ae_title = "A\\\\B"', "5: dicom.ae_title: 'A\\\\B' is not an AE title"),
            ('ae_title = "WETREAD_STAT"', "3: stat_ae_title equals ae_title"),
            ('[http]\ntoken_file = "none"', "6: http.token_file: "),
            ('[http]\nhost = "0.0.0.0"', "6: http.host 0.0.0.0 is open to the network without TLS; add [http.tls]"),
            ("[http]\nport = 11112", "6: port 11112 is the DICOM door's too"),
            ('[triton]\nurl = "127.0.0.1:8000"', "6: triton.url: '127.0.0.1:8000' is no address"),
            ('[triton]\nrollouts = "rollout"', "6: triton.rollouts: 'rollout' is not a rollout store: a folder from"),
            (
                '[completeness]\nsingle_image_modalities = "DX"',
                "6: completeness.single_image_modalities is the text 'DX', not a list; "
                'write single_image_modalities = ["DX"]',
            ),
            ("peer = 5", "5: unknown key 'peer' in [dicom]"),
            ('[peer]\nae_title = "A"', "5: peer is one table, not a list of them; write [[peer]]"),
            ("[[intake]]\n", "5: intake is a list, not a table; write [intake]"),
            ('[[peer]]\nhost = "h"', "5: ae_title is missing in [peer]; add ae_title ="),
            ('[[peer]]\nae_title = "A"\nport = 5', "7: peer 'A' has a port but no host to ask"),
            ('[[peer]]\nae_title = "A"\ntls = true', "7: peer 'A' is asked over TLS, but we have no certificate"),
            ('[[peer]]\nae_title = "A"\n[[peer]]\nae_title = "A"', "8: peer 'A' is there 2 times"),
            (PACS + 'sr = "3d"', "9: destination.sr: '3d' is none of its values; write one of \"comprehensive3d\""),
            (PACS + 'sr = "none"\ncapture = false\nseg = false', "5: destination 'pacs' wants no result at all"),
            (PACS + 'verify = "qido"', "9: destination 'pacs': verify = \"qido\" needs url; add url"),
            ('[[destination]]\nname = "a"\nkind = "stow"\nverify = "qido"', "7: destination 'a': kind = \"stow\" nee"),
            (PACS + PACS, "10: destination 'pacs' is there 2 times"),
            ('[[rule]]\nname = "r"\ndestinations = ["pasc"]', "7: rule 'r' names no destination: 'pasc'"),
            ('[[rule]]\nname = "r"\nmatch = { modality = [] }', "7: rule.match.modality: it asks for nothing"),
            ('[[rule]]\nname = "r"\n[rule.match]\nmodalty = ["DX"]', "8: unknown key 'modalty' in [rule.match]"),
            ('[[rule]]\nname = "r"\nmatch.study_description_regex = "("', "7: rule 'r': study_description_regex is no"),
        ],
    )  # fmt: skip
    def test_one_mistake_by_its_line_with_its_remedy(self, file, more, told):
        assert only(file, LEAST + more + "\n").startswith(told)

    @pytest.mark.parametrize(
        ("store", "told"),
        [
            ("mysql://h/d", "'mysql' is no store of ours"),
            ("no url", "is no address of a database"),
            ("postgresql+psycopg://u:secret@h/d", "holds a password; put it into a file"),
        ],
    )
    def test_a_store_that_cannot_be_and_never_its_password(self, file, store, told):
        said = only(file, f'[gateway]\nstate_dir = "s"\nstore = "{store}"\n[dicom]\nany_peer = true\n')
        assert said.startswith("3: ")
        assert told in said
        assert "secret" not in said

    @pytest.mark.parametrize(
        ("url", "told"),
        [
            ("ftp://pacs/x", "is no DICOMweb root"),
            ("https:///x", "is no DICOMweb root"),
            ("https://me:secret@pacs/x", "the url holds a password"),
            ("http://pacs/x", "its token would travel in the clear"),
        ],
    )
    def test_a_dicomweb_root_that_cannot_be(self, file, url, told):
        (file.parent / "token").write_text("x")
        stow = f'[[destination]]\nname = "a"\nkind = "stow"\nverify = "qido"\nurl = "{url}"\ntoken_file = "token"\n'
        said = only(file, LEAST + stow)
        assert told in said
        assert "secret" not in said

    def test_all_mistakes_at_once_in_the_order_of_the_file(self, file):
        found = mistakes(
            file,
            '[gateway]\nreporters = "two"\n[dicom]\nport = 0\n[[destination]]\nname = "pacs"\n'
            '[[rule]]\nname = "a"\ndestinations = ["pascs"]\n[[rule]]\nname = "a"\nmatch = { view = [1] }\n',
        )
        assert [line.split(":")[0] for line in found] == ["1", "2", "4", "5", "5", "9", "11", "12"]

    def test_no_table_at_all(self, file):
        assert only(file, "").startswith('1: [gateway] is missing; add [gateway] with state_dir = "..."')

    def test_a_destination_whose_name_is_wrong_is_not_missed_by_the_rules_too(self, file):
        text = LEAST + PACS.replace('"pacs"', "5") + '[[rule]]\nname = "r"\ndestinations = ["pacs"]\n'
        assert only(file, text).startswith("6: destination.name is 5")


class TestLines:
    def test_values_of_several_lines_and_comments_do_not_shift_the_count(self):
        text = '# one\n\n[a]\nb = [\n  1, # [no]\n  2,\n]\nc = """\n[a]\nd = 1\n"""\nd = 3\n'
        text += "[[e.f]]\n[[e.f]]\ng.h = 1\n[e.f.i]\n"
        lines = Lines(text)
        places = {("a",): 3, ("a", "b"): 4, ("a", "c"): 8, ("a", "d"): 12, ("e", "f", 0): 13, ("e", "f", 1): 14}
        places |= {("e", "f", 1, "g", "h"): 15, ("e", "f", 1, "i"): 16, ("a", "not there"): 3, ("nor here",): 1}
        assert {place: lines.line(place) for place in places} == places

    @pytest.mark.slow
    @given(st.lists(st.sampled_from(["", "# x", "a{} = 1", "b{} = [\n1,\n]", '"c.d{}" = "=["']), max_size=8))
    def test_every_key_is_found_on_the_line_that_begins_with_it(self, statements):
        text = "\n".join(statement.format(index) for index, statement in enumerate(statements))
        written = text.splitlines()
        lines = Lines(text)
        for index, statement in enumerate(statements):
            if "=" in statement:
                key = statement.format(index).split(" = ")[0]
                assert written[lines.line((key.strip('"'),)) - 1].startswith(key)


class TestBounds:
    def classes(self):
        return [cls for cls in vars(settings_module).values() if dataclasses.is_dataclass(cls)]

    def test_every_number_has_its_range_and_its_default_lies_within(self):
        for cls in self.classes():
            hints = get_type_hints(cls, localns={"Path": Path})
            for field in dataclasses.fields(cls):
                if hints[field.name] in (int, float):
                    limit = BOUNDS[f"{cls.__name__}.{field.name}"]
                    assert isinstance(limit, Range)
                    assert field.default is dataclasses.MISSING or limit.complaint(field.default) is None

    def test_no_bound_is_of_a_setting_that_is_gone(self):
        known = {f"{cls.__name__}.{field.name}" for cls in self.classes() for field in dataclasses.fields(cls)}
        assert BOUNDS.keys() <= known

    @pytest.mark.parametrize("title", ["", " A", "A ", " ", "A\\B", "A\n", "Ä", "X" * 17])
    def test_what_is_no_ae_title(self, title):
        assert AE_TITLE.complaint(title)

    @pytest.mark.parametrize("title", ["A", "WET READ", "X" * 16, "a-b.c_d"])
    def test_what_is_one(self, title):
        assert AE_TITLE.complaint(title) is None

    def test_loopback_is_known_by_address_and_by_its_one_name(self):
        assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
        assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "pacs", "localhost.example")))
