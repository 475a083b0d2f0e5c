"""Series read whole: one request, one reading, and what is kept of it."""

from __future__ import annotations

import json
import threading
import zlib
from dataclasses import replace

import numpy as np
import pytest
from segmented_series import blobs, segmented
from sqlalchemy import insert, select, update
from waiting import WAIT_S, wait_for
from wetread_client import Client, FakeTransport, Rejected, Retry, ServerError, Unavailable
from wetread_client.errors import Status, translate
from wetread_client.fake import fake_answer, fake_segmentation
from wetread_gateway.errors import SourceMissing
from wetread_gateway.priority import Priority
from wetread_gateway.reading.canary import CANARY_MODALITIES, canary_series
from wetread_gateway.reading.http_worklist import HttpWorklist
from wetread_gateway.reading.pipeline import Pipeline, Pipelines
from wetread_gateway.reading.read import read
from wetread_gateway.reading.reader import Reader
from wetread_gateway.reading.segmentation_table import reading_of
from wetread_gateway.reading.store_worklist import StoreWorklist
from wetread_gateway.reading.stored import Refusal, StoredReading
from wetread_gateway.reading.wire import Completion
from wetread_gateway.reading.worklist import Lease, LeasedSource, Served
from wetread_gateway.report_queue import settle
from wetread_gateway.reporter import ReporterStage
from wetread_gateway.results.order import ObjectKind
from wetread_gateway.state.tables import INSTANCES, OBJECTS, READINGS, SEGMENTATIONS, WORKS, WorkKind, WorkState
from wetread_gateway.triage.retention import _delete
from wetread_gateway.web.studies import study
from works import Works, configuration, serving

SERIES = frozenset({"DICOM", "LENGTHS"})
STABLE = Served("brain_mr", "stable")
REFUSED = Rejected("UnsupportedImage", "1 image makes no volume; at least 8 are needed")
LABELS = blobs()


def lease_of(count: int = 3, **values) -> Lease:
    sources = tuple(LeasedSource(f"2.25.2.{n}") for n in range(count))
    made = Lease(1, 1, 0.0, "a", "2.25.1", STABLE, Priority.ROUTINE, False, False, 0, sources)
    return replace(made, **values)


def segmenter(*script, inputs=SERIES) -> tuple[Pipeline, FakeTransport]:
    transport = FakeTransport(script or [fake_segmentation(LABELS, segments=("white", "grey"))], inputs=inputs)
    return Pipeline(Client(transport=transport, retry=Retry(times=0))), transport


def read_whole(*script, count: int = 3, **options) -> StoredReading:
    pipeline, _ = segmenter(*script)
    return read(lease_of(count), lambda n: b"slice %d" % n, pipeline, 5.0, 60.0, **options)


class TestReading:
    def test_all_images_of_a_work_go_in_one_request_in_their_order(self):
        pipeline, transport = segmenter()
        kept = read(lease_of(any_body_part=True), lambda n: b"slice %d" % n, pipeline, 5.0, 60.0)
        # The client asks once more for what a release answers first, to have its card.
        assert {request.files for request in transport.requests} == {(b"slice 0", b"slice 1", b"slice 2")}
        assert all(request.parameters == {"any_body_part": True} for request in transport.requests)
        assert all(50 < request.timeout_s <= 60 for request in transport.requests), "a series has its own deadline"
        assert (kept.findings, kept.refusal, kept.pipeline) == ((), None, "brain_mr")

    def test_the_segmentation_is_kept_with_what_its_labels_stand_for(self):
        kept = read_whole(fake_segmentation(LABELS, segments=("white", "grey"), spacing_mm=(2.0, 0.5, 0.5)))
        found = kept.segmentation
        assert np.array_equal(found.pixels(), LABELS)
        assert [(s.label, s.value, s.voxels) for s in found.segments] == [
            ("white", 1, (LABELS == 1).sum()),
            ("grey", 2, (LABELS == 2).sum()),
        ]
        assert found.segments[0].volume_ml == pytest.approx((LABELS == 1).sum() * 2 * 0.25 / 1000, abs=1e-3)
        assert found.sop_uids == tuple(f"2.25.2.{n}" for n in range(len(LABELS)))
        assert kept.heatmap_source_uid == found.sop_uids[found.largest_slice()], "the picture shows the fullest slice"

    def test_what_was_left_out_is_a_warning_that_counts(self):
        left = [{"file": n, "sop_instance_uid": "1", "why": "a localiser"} for n in range(2)]
        kept = read_whole(fake_segmentation(LABELS, segments=("a", "b"), left_out=left, warnings=["a gap of 3 mm"]))
        assert kept.warnings == ("2 images of the series not read: a localiser", "a gap of 3 mm")

    def test_a_classifier_of_series_tells_of_the_series_as_a_whole(self):
        answer = fake_answer([0.8], has_heatmap=False)
        kept = read_whole(answer)
        assert [(f.label, f.source_uid) for f in kept.findings] == [("finding", "")]
        assert kept.segmentation is None

    def test_a_refused_series_is_a_refusal_of_the_release_that_answers_a_good_one(self):
        kept = read_whole(REFUSED, fake_segmentation(LABELS, release=4, segments=("a", "b")))
        assert kept.refusal == Refusal("UnsupportedImage", REFUSED.message)
        assert (kept.release, kept.algorithm) == (4, "fake")

    def test_a_film_pipeline_reads_film_by_film_as_ever(self):
        pipeline, transport = segmenter(fake_answer([0.6]), inputs=frozenset({"DICOM"}))
        kept = read(lease_of(), lambda n: b"film %d" % n, pipeline, 5.0)
        assert [request.lengths for request in transport.requests] == [()] * 3
        assert [finding.source_uid for finding in kept.findings] == ["2.25.2.0", "2.25.2.1", "2.25.2.2"]

    def test_labels_that_the_card_does_not_name_are_the_servers_fault(self):
        with pytest.raises(ServerError, match="does not name"):
            read_whole(fake_segmentation(LABELS, segments=("white",)))

    def test_a_candidate_in_shadow_is_not_asked_for_its_segmentation(self):
        pipeline, transport = segmenter()
        kept = read(lease_of(), lambda n: b"x", pipeline, 5.0, heatmap=False)
        assert kept.segmentation is None
        assert all("SEGMENTATION" not in request.outputs for request in transport.requests)

    def test_a_missing_image_is_hopeless_as_ever(self):
        with pytest.raises(SourceMissing):
            read(lease_of(0), lambda n: b"x", segmenter()[0], 5.0)


class TestWhatAPipelineTakes:
    def test_the_server_is_asked_once_and_anew_when_the_release_changes(self):
        first, second = (fake_segmentation(LABELS, segments=("a", "b"), release=n) for n in (1, 2))
        pipeline, transport = segmenter(first, first, second)
        asked = []
        known = transport.inputs
        transport.inputs = lambda *words: asked.append(words) or known(*words)
        for _ in range(2):
            read(lease_of(), lambda n: b"x", pipeline, 5.0)
        assert len(asked) == 1
        for _ in range(2):  # the first of them meets the new release
            read(lease_of(), lambda n: b"x", pipeline, 5.0)
        assert len(asked) == 2

    def test_the_server_is_asked_anew_when_a_request_has_failed(self):
        """Another pipeline may be served under the same name by now."""
        pipeline, transport = segmenter(fake_answer([0.6]), ServerError("INVALID_ARGUMENT", "expected 2 inputs"))
        transport._inputs = frozenset({"DICOM"})
        read(lease_of(1), lambda n: b"film", pipeline, 5.0)
        transport._inputs = SERIES
        with pytest.raises(ServerError):
            read(lease_of(), lambda n: b"x", pipeline, 5.0)
        transport._script.append(fake_segmentation(LABELS, release=2, segments=("a", "b")))
        assert read(lease_of(), lambda n: b"x", pipeline, 5.0).segmentation is not None

    def test_a_server_that_will_not_say_is_no_fault_of_the_work(self):
        pipeline, transport = segmenter()

        def down(*_):
            raise Unavailable("UNAVAILABLE", "down")

        transport.inputs = down
        with pytest.raises(Unavailable):
            read(lease_of(), lambda n: b"x", pipeline, 5.0)

    def test_its_probe_is_a_series_and_what_refuses_every_one_lives(self):
        pipeline, transport = segmenter(REFUSED)
        pipeline.probe()
        assert [len(request.files) for request in transport.requests] == [len(canary_series("CT"))] * 2
        assert len(CANARY_MODALITIES) == 2

    def test_a_probe_that_is_read_ends_there(self):
        pipeline, transport = segmenter()
        pipeline.probe()
        assert len({request.files for request in transport.requests}) == 1
        assert pipeline.release()[0] == 1

    def test_an_input_that_is_missing_is_no_refusal_and_a_probe_that_meets_it_fails(self):
        said = "expected 2 inputs but got 1 inputs for model 'brain_mr'"
        error = translate(Status.INVALID_ARGUMENT, said)
        assert isinstance(error, ServerError)
        pipeline, _ = segmenter(error)
        with pytest.raises(ServerError):
            pipeline.probe()


class TestKeeping:
    @pytest.fixture
    def works(self, tmp_path):
        made = Works.open(configuration(tmp_path))
        yield made
        made.close()

    def kept(self) -> StoredReading:
        return read_whole()

    def test_a_reading_goes_through_the_store_whole(self, works):
        work, kept = works.add(b"1", b"2", b"3", pipeline="brain_mr"), self.kept()
        worklist = StoreWorklist(works.context)
        (lease,) = worklist.lease(1, "a")
        worklist.complete(lease, kept)
        with works.context.store.read() as connection:
            assert reading_of(connection, work) == kept
            (row,) = connection.execute(select(READINGS)).all()
        assert "segmentation" not in row.document, "a film's row stays as small as it is"

    def test_a_reading_goes_over_http_whole_and_a_films_document_does_not_change(self):
        kept = self.kept()
        document = json.loads(json.dumps(Completion.of(7, kept)))
        assert Completion.model_validate(document).parsed() == kept
        assert "segmentation" not in Completion.of(7, replace(kept, segmentation=None))

    @pytest.mark.parametrize("change", ["labels", "shape", "slices"])
    def test_a_segmentation_that_contradicts_itself_is_no_reading(self, change):
        document = Completion.of(7, self.kept())
        if change == "labels":
            document["segmentation"]["labels"] = "AAAA"
        elif change == "shape":
            document["segmentation"]["document"]["shape"][1] += 1
        else:
            document["segmentation"]["document"]["sop_uids"].pop()
        with pytest.raises(ValueError, match=r"(?i)labels|slices"):
            Completion.model_validate(document).parsed()

    def test_labels_that_blow_up_are_stopped(self):
        found = self.kept().segmentation
        bomb = replace(found, labels=zlib.compress(bytes(10_000_000)))
        with pytest.raises(ValueError, match=f"labels of {LABELS.size + 1} bytes or more"):
            bomb.pixels()

    def test_a_correction_takes_the_segmentation_along(self, works):
        first = works.add(b"1", b"2", pipeline="brain_mr")
        worklist = StoreWorklist(works.context)
        (lease,) = worklist.lease(1, "a")
        kept = self.kept()
        worklist.complete(lease, kept)
        again = works.add(b"1", b"2", pipeline="brain_mr", kind=WorkKind.REUSE, predecessor=first, number=2)
        assert settle(works.context, works.row(again)) == kept
        with works.context.store.read() as connection:
            assert reading_of(connection, again) == kept

    @pytest.mark.slow
    def test_many_images_make_one_lease_and_come_one_by_one_over_http(self, works):
        work = works.add(*[b"%d" % n for n in range(150)], pipeline="brain_mr")
        with serving(works.context) as url:
            far = HttpWorklist(url)
            (lease,) = far.lease(1, "far")
            study = works.row(work).study_uid
            assert [source.sop_uid for source in lease.sources] == [f"{study}.{n}" for n in range(150)]
            pipeline, transport = segmenter()
            kept = read(lease, lambda n: far.film(lease, n), pipeline, 5.0, 60.0)
            assert transport.requests[-1].files == tuple(b"%d" % n for n in range(150))
            far.complete(far.extend(lease), kept)
            far.close()
        with works.context.store.read() as connection:
            assert reading_of(connection, work) == kept

    def test_the_labels_go_when_the_study_is_forgotten(self, works):
        work = works.add(b"1", b"2", pipeline="brain_mr")
        worklist = StoreWorklist(works.context)
        worklist.complete(worklist.lease(1, "a")[0], self.kept())
        with works.context.store.write() as connection:
            _delete(connection, [works.row(work).study_uid])
            assert connection.execute(select(SEGMENTATIONS)).all() == []


def test_films_pass_series_that_wait_for_room(tmp_path):
    works = Works.open(configuration(tmp_path, concurrency=2))
    series = [works.add(b"a", b"b", pipeline="brain_mr") for _ in range(3)]
    film = works.add(b"film", pipeline="chest_xray")
    go, at_once, most = threading.Event(), [], []

    def slow(request):
        at_once.append(request)
        most.append(len(at_once))
        go.wait(WAIT_S)
        at_once.remove(request)
        return fake_segmentation(LABELS, segments=("a", "b"))

    transports = {
        "brain_mr": FakeTransport([slow], inputs=SERIES, outputs=frozenset({"SEGMENTATION", "NOTES", "CARD"})),
        "chest_xray": FakeTransport([fake_answer()]),
    }
    pipelines = Pipelines(lambda: "", lambda _, model: Client(transport=transports[model], retry=Retry(times=0)))
    stop = threading.Event()
    reader = Reader(StoreWorklist(works.context), pipelines, "a", lambda: works.context.settings.triton)
    running = threading.Thread(target=reader.run, args=(stop,))
    running.start()
    try:
        assert wait_for(lambda: works.row(film).state == WorkState.READ), "a film passes series"
        assert all(works.row(one).state == WorkState.LEASED for one in series)
        go.set()
        assert wait_for(lambda: all(works.row(one).state == WorkState.READ for one in series))
        assert max(most) == 1, "half of the slots, for series"
    finally:
        go.set()
        stop.set()
        running.join()
        works.close()


class TestReport:
    """From a stored reading to objects that are on the disk and due."""

    def work(self, folder, seg: str = "true") -> tuple[Works, int]:
        file = configuration(folder)
        pacs = f'[[destination]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\ncapture = false\nseg = {seg}\n'
        file.write_text(file.read_text() + pacs)
        works = Works.open(file, "reporter-0-of-1")
        case = segmented(folder)
        study = "1.2.826.0.1.3680043.8.498.11.1"
        number = works.add(
            *[one.read_bytes() for one in case.files],
            state=WorkState.READ,
            destinations=["pacs"],
            pipeline="brain_mr",
            completeness="confirmed",
            options={"unknown_age_is_inside": True},
            expected=len(case.files),
        )
        with works.context.store.write() as connection:
            connection.execute(
                insert(READINGS).values(work_id=number, document=case.reading.document(), read_at=case.reading.read_at)
            )
            values = {"work_id": number, "document": case.kept.document(), "labels": case.kept.labels}
            connection.execute(insert(SEGMENTATIONS).values(values))
            rows = connection.execute(select(INSTANCES).order_by(INSTANCES.c.id)).all()
            _move_to(connection, works, rows, number, study)
        return works, number

    def kinds(self, works: Works, number: int) -> set[str]:
        ReporterStage(works.context).step()
        assert works.row(number).state in (WorkState.REPORTED, WorkState.FINISHED), works.row(number).reason
        with works.context.store.read() as connection:
            return set(connection.scalars(select(OBJECTS.c.kind).where(OBJECTS.c.work_id == number)))

    @pytest.mark.slow
    def test_a_series_becomes_a_segmentation_and_a_report(self, tmp_path):
        works, number = self.work(tmp_path)
        assert self.kinds(works, number) == {ObjectKind.SEGMENTATION, ObjectKind.SR_COMPREHENSIVE_3D}
        works.close()

    @pytest.mark.slow
    def test_a_destination_that_takes_no_segmentation_gets_the_report_alone(self, tmp_path):
        works, number = self.work(tmp_path, seg="false")
        assert self.kinds(works, number) == {ObjectKind.SR_COMPREHENSIVE_3D}
        works.close()

    def test_the_http_door_tells_of_its_segments(self, tmp_path):
        works, number = self.work(tmp_path)
        (told,) = study(works.context, works.row(number).study_uid).works
        white, grey = told.reading.segments
        assert (white.label, white.codes[0].value) == ("white matter", "389080008")
        assert white.volume_ml == pytest.approx((LABELS == 1).sum() / 500)
        assert grey.volume_ml == pytest.approx((LABELS == 2).sum() / 500)
        with works.context.store.write() as connection:
            connection.execute(update(WORKS).where(WORKS.c.id == number).values(options={}))
        (told,) = study(works.context, works.row(number).study_uid).works
        assert told.reading.undetermined, "the age is unknown"
        assert [segment.volume_ml for segment in told.reading.segments] == [None, None]
        works.close()


def _move_to(connection, works: Works, rows, number: int, study: str) -> None:
    """Put a work and its files under the study that the files name."""
    for row in rows:
        old = works.context.spool.root / row.path
        new = works.context.spool.root / works.context.spool.path_in(row.arrival, study, "studies")
        new.parent.mkdir(parents=True, exist_ok=True)
        old.rename(new)
        values = {"study_uid": study, "path": str(new.relative_to(works.context.spool.root))}
        connection.execute(update(INSTANCES).where(INSTANCES.c.id == row.id).values(values))
    connection.execute(update(WORKS).where(WORKS.c.id == number).values(study_uid=study))
