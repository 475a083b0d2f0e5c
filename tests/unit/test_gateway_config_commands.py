"""What `wetread gateway init`, `check` and `explain` and the reference of settings say."""

import dataclasses
import fcntl
import subprocess
import sys
from pathlib import Path

import films
import numpy as np
import pytest
from typer.testing import CliRunner
from wetread_client.cli import main
from wetread_gateway.cli import app
from wetread_gateway.config import settings as settings_module
from wetread_gateway.config.check import cautions, describe, shadowed
from wetread_gateway.config.init import Answers, render, write
from wetread_gateway.config.load import load
from wetread_gateway.config.reference import reference
from wetread_gateway.config.settings import Destination, Dicom, Gateway, Match, Rule, Settings
from wetread_gateway.errors import ConfigError
from wetread_gateway.instance import Arrival
from wetread_gateway.spool.meta import encode

ROOT = Path(__file__).parents[2]
RUN = CliRunner()


def film_bytes(**attributes) -> bytes:
    uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1"}
    return films.to_bytes(films.film(np.zeros((8, 8), np.uint16), **uids, **attributes))


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "gateway.toml"
    write(file, Answers(state_dir=tmp_path / "state", pacs_ae_title="ORTHANC", pacs_port=4242))
    return file


class TestInit:
    def test_what_it_writes_is_read_as_it_was_answered(self, tmp_path):
        file = tmp_path / "gateway.toml"
        write(file, Answers(tmp_path, "CHEST AI", "0.0.0.0", 104, ("CR1", "DX1"), "PACS1", "pacs.example", 11113, 0))
        settings = load(file)
        assert (settings.dicom.ae_title, settings.dicom.stat_ae_title) == ("CHEST AI", "CHEST AI_STAT")
        assert [peer.ae_title for peer in settings.peer] == ["PACS1", "CR1", "DX1"]
        assert (settings.destination[0].host, settings.destination[0].port) == ("pacs.example", 11113)
        assert settings.rule[0].destinations == ("pacs",)
        assert settings.http.port == 0
        assert not list(shadowed(settings))

    def test_the_longest_ae_title_still_has_room_for_its_stat_twin(self, tmp_path):
        file = tmp_path / "gateway.toml"
        write(file, Answers(ae_title="X" * 16))
        assert load(file).dicom.stat_ae_title == "X" * 11 + "_STAT"

    def test_every_key_in_its_comments_is_one_that_there_is(self):
        known = {
            field.name
            for cls in vars(settings_module).values()
            if dataclasses.is_dataclass(cls)
            for field in dataclasses.fields(cls)
        }
        keys = {
            line[2:].split(" = ")[0]
            for line in render(Answers()).splitlines()
            if line.startswith("# ") and " = " in line
        }
        assert len(keys) > 10
        assert keys <= known

    def test_it_never_writes_over_a_file(self, config):
        before = config.read_text()
        said = RUN.invoke(app, ["init", str(config), "--yes"])
        assert said.exit_code == 1
        assert "is there already and stays as it is" in said.output
        assert config.read_text() == before

    def test_an_answer_that_is_no_good_leaves_no_file_behind(self, tmp_path):
        with pytest.raises(ConfigError, match="is not an AE title"):
            write(tmp_path / "gateway.toml", Answers(ae_title="A\\B"))
        assert not (tmp_path / "gateway.toml").exists()

    def test_a_folder_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match="cannot be written: No such file or directory"):
            write(tmp_path / "none" / "gateway.toml", Answers())

    def test_questions_take_their_defaults_from_the_options(self, tmp_path):
        file = tmp_path / "new.toml"
        said = RUN.invoke(
            app, ["init", str(file), "--pacs-port", "4242"], input="MY_AE\n" + "\n" * 5 + "CR1, CR2\n" + "\n" * 3
        )
        assert said.exit_code == 0, said.output
        settings = load(file)
        assert settings.dicom.ae_title == "MY_AE"
        assert settings.destination[0].port == 4242
        assert [peer.ae_title for peer in settings.peer] == ["PACS", "CR1", "CR2"]


class TestCheck:
    def test_it_says_what_the_gateway_will_do(self, config):
        said = RUN.invoke(app, ["check", "--config", str(config)])
        assert said.exit_code == 0
        assert "DICOM door at 127.0.0.1:11112 as WETREAD (STAT: WETREAD_STAT), no TLS" in said.output
        assert (
            "destination 'pacs': ORTHANC at 127.0.0.1:4242; gets comprehensive3d SR, capture; asked by" in said.output
        )
        assert (
            "rule 1 'chest films': modality DX|CR|RG, body_part *CHEST*|*THORAX*|(empty) -> chest_xray" in said.output
        )
        assert "mind:" not in said.output

    def test_the_file_may_be_named_before_the_command(self, config):
        assert RUN.invoke(app, ["--config", str(config), "check"]).exit_code == 0

    def test_a_broken_file_is_an_error_with_all_its_lines(self, config):
        config.write_text("[gateway]\nreporters = 0\n[dicm]\n")
        said = RUN.invoke(app, ["check", "--config", str(config)])
        assert said.exit_code == 1
        assert f"{config}:2: gateway.reporters: 0 is not between" in said.output
        assert f"{config}:3: unknown key 'dicm'" in said.output

    def test_it_is_a_command_of_wetread(self, config, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["gateway", "check", "--config", str(config)])
        assert ended.value.code == 0
        assert "is fine" in capsys.readouterr().out

    def test_every_peer_stow_root_and_open_door_is_told(self):
        settings = Settings(
            Gateway(Path("s"), store="postgresql+psycopg://h/d"),
            dicom=Dicom(any_peer=True),
            http=dataclasses.replace(Settings(Gateway(Path())).http, port=0),
            destination=(Destination("web", "stow", url="https://p/dicom-web", verify="none", sr="none", fhir=True),),
            rule=(Rule("all"),),
        )
        said = "\n".join(describe(settings))
        assert "store PostgreSQL" in said
        assert "no HTTP door" in said
        assert "any AE title may call" in said
        assert "destination 'web': https://p/dicom-web; gets capture, FHIR; not asked what it holds" in said
        assert "rule 1 'all': anything -> kept, not read" in said


class TestCautions:
    def settings(self, *rules, **more) -> Settings:
        return Settings(Gateway(Path("s")), rule=rules, **{"dicom": Dicom(any_peer=True)} | more)

    def test_nobody_who_may_send(self):
        (said,) = cautions(self.settings(Rule("r"), dicom=Dicom()))
        assert said.startswith("nobody may send over DICOM")

    def test_no_rule(self):
        assert "there is no rule" in next(cautions(self.settings()))

    def test_results_that_go_nowhere_and_a_destination_that_gets_nothing(self):
        destination = Destination("pacs", ae_title="P", host="h")
        said = list(cautions(self.settings(Rule("r", "chest_xray"), destination=(destination,))))
        assert said == [
            "rule 'r' sends its results nowhere; name destinations",
            "destination 'pacs' is in no rule: nothing is sent to it",
        ]

    def test_a_dicom_door_open_to_the_network(self):
        (said,) = cautions(self.settings(Rule("r"), dicom=Dicom(host="0.0.0.0", any_peer=True)))
        assert "open to anyone who reaches 0.0.0.0" in said

    @pytest.mark.parametrize(
        ("earlier", "later"),
        [
            (Match(), Match(modality=("DX",))),
            (Match(), Match()),
            (Match(modality=("DX", "CR")), Match(modality=("dx",))),
            (Match(modality=("*",)), Match(modality=("D*", "CR"))),
            (Match(modality=("D*",)), Match(modality=("DX",), view=("PA",))),
            (Match(study_description_regex="a"), Match(study_description_regex="a", modality=("DX",))),
        ],
    )
    def test_a_rule_that_can_never_fire(self, earlier, later):
        first, second = Rule("first", match=earlier), Rule("second", match=later)
        assert list(shadowed(self.settings(first, second))) == [(second, first)]
        assert "rule 'second' never fires: 'first' above it" in next(cautions(self.settings(first, second)))

    @pytest.mark.parametrize(
        ("earlier", "later"),
        [
            (Match(modality=("DX",)), Match()),
            (Match(modality=("DX",)), Match(modality=("DX", "CR"))),
            (Match(modality=("DX",)), Match(modality=("D*",))),
            (Match(modality=("?X",)), Match(modality=("*X",))),
            (Match(modality=("DX",), view=("PA",)), Match(modality=("DX",))),
            (Match(study_description_regex="a"), Match(study_description_regex="aa")),
        ],
    )
    def test_a_rule_that_still_can(self, earlier, later):
        assert not list(shadowed(self.settings(Rule("first", match=earlier), Rule("second", match=later))))


class TestExplain:
    @pytest.fixture
    def film(self, tmp_path):
        path = tmp_path / "film.dcm"
        path.write_bytes(film_bytes())
        return path

    def said(self, config, film, *more) -> str:
        ran = RUN.invoke(app, ["explain", str(film), "--config", str(config), *more])
        assert ran.exit_code == 0, ran.output
        return ran.output

    def test_the_rule_that_fires_and_what_follows(self, config, film):
        said = self.said(config, film)
        assert "sent by ORTHANC to WETREAD\n" in said
        assert "rule 'chest films' matches: modality 'DX' is like 'DX'" in said
        assert "chest_xray reads it at once, by itself, priority routine" in said
        assert "results go to pacs" in said

    def test_the_stat_title_makes_it_stat(self, config, film):
        assert "priority stat" in self.said(config, film, "--called-ae", "WETREAD_STAT")

    def test_a_stranger_is_refused_at_the_door(self, config, film):
        assert "refuses it: no [[peer]] is called 'NOBODY'" in self.said(config, film, "--calling-ae", "NOBODY")
        assert "we are called 'WETREAD' and 'WETREAD_STAT'" in self.said(config, film, "--called-ae", "ELSE")

    def test_no_rule_wants_it(self, config, tmp_path):
        path = tmp_path / "ct.dcm"
        path.write_bytes(film_bytes(Modality="CT"))
        assert "no rule matches: it is kept" in self.said(config, path)

    def test_a_report_is_answered_and_never_read(self, config, tmp_path):
        path = tmp_path / "sr.dcm"
        path.write_bytes(film_bytes(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.34"))
        assert "it is a structured report or key object selection: answered with Success" in self.said(config, path)

    def test_a_file_of_the_spool_is_explained_as_it_came(self, config, tmp_path):
        arrival = Arrival("dimse", "CR1", "WETREAD", "127.0.0.1", "a", 0.0, stat=True)
        path = tmp_path / "spooled.dcm"
        data = film_bytes()
        at = 144 + int.from_bytes(data[140:144], "little")  # where the dataset begins
        path.write_bytes(encode(arrival, "1.2", "1.3", "1.2.840.10008.1.2.1") + data[at:])
        said = self.said(config, path)
        assert "sent by CR1 to WETREAD, STAT\n" in said
        assert "no [[peer]] is called 'CR1'" in said

    def test_a_file_that_is_no_dicom_is_an_error_and_no_traceback(self, config):
        ran = RUN.invoke(app, ["explain", str(config), "--config", str(config)])
        assert ran.exit_code == 1
        assert ran.output.startswith("wetread gateway: ")


class TestOperatorsCommands:
    def test_an_empty_gateway_has_an_empty_queue_and_nothing_to_retry_or_index(self, config):
        for words, told in (
            (["queue"], "received, not sorted"),
            (["retry", "all"], "0 are tried again"),
            (["reindex"], "indexed: 0 instances"),
        ):
            ran = RUN.invoke(app, [*words, "--config", str(config)])
            assert ran.exit_code == 0, ran.output
            assert told in ran.output

    def test_a_study_that_never_came_and_a_letter_that_is_none(self, config):
        ran = RUN.invoke(app, ["study", "1.2.3", "--config", str(config)])
        assert ran.exit_code == 1
        assert "no study 1.2.3 came in" in ran.output
        assert RUN.invoke(app, ["retry", "work:7", "--config", str(config)]).exit_code == 2

    def test_a_running_gateway_is_not_indexed_under_its_feet(self, config, tmp_path):
        (tmp_path / "state").mkdir()
        with (tmp_path / "state" / "lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            ran = RUN.invoke(app, ["reindex", "--config", str(config)])
        assert ran.exit_code == 1
        assert "a gateway is running in" in ran.output

    def test_without_a_command_it_runs_and_a_missing_file_is_told(self, tmp_path):
        ran = RUN.invoke(app, ["--config", str(tmp_path / "none.toml")])
        assert ran.exit_code == 1
        assert "no such file; `wetread gateway init" in ran.output


class TestABrokenStore:
    @pytest.mark.slow
    def test_an_operator_is_told_which_store_and_what_to_do(self, tmp_path):
        file = tmp_path / "gateway.toml"
        file.write_text(f'[gateway]\nstate_dir = "{tmp_path / "state"}"\n[dicom]\nany_peer = true\n')
        (tmp_path / "state").mkdir()
        (tmp_path / "state" / "state.sqlite").write_bytes(b"no database " * 1000)
        command = [Path(sys.executable).with_name("wetread"), "gateway", "queue", "--config", file]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 1
        assert f"the state store of {file} cannot be read (file is not a database)" in run.stderr
        assert "wetread doctor --config" in run.stderr
        assert "Traceback" not in run.stderr


class TestReference:
    def test_the_committed_reference_is_current(self):
        assert (ROOT / "docs" / "gateway-settings.md").read_text() == reference(), (
            "make it anew: python -m wetread_gateway.config.reference docs/gateway-settings.md"
        )

    def test_every_setting_is_explained(self):
        for line in reference().splitlines():
            if line.startswith("| `"):
                assert not line.endswith("|  |"), line
        assert (
            "| `port` | whole number, 1 to 65535 | `11112` | Port to listen on (11112 is registered for DICOM). |"
            in reference()
        )
