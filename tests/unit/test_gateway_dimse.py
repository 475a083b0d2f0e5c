from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
)
from pynetdicom.presentation import build_context
from wetread_gateway.config.settings import Dicom, Gateway, Peer, Settings
from wetread_gateway.dimse.command import BadCommand, Command, encode
from wetread_gateway.dimse.negotiation import Rejected, agree, is_storage, read_request
from wetread_gateway.dimse.status import STORAGE_COMMITMENT, VERIFICATION, Status
from wetread_gateway.dimse.wire import HEADER, BadPdu, Gone, PduType, TooSlow, Wire, data_pdu

CR = "1.2.840.10008.5.1.4.1.1.1"
EXPLICIT, IMPLICIT, J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.90"
SETTINGS = Settings(
    Gateway(Path("/nowhere")),
    dicom=Dicom(),
    peer=(Peer("CT"), Peer("TIED", host="10.0.0.1"), Peer("URGENT", stat=True)),
)


class TestCommand:
    def test_a_store_request_of_pynetdicom_is_read(self):
        store = C_STORE()
        store.MessageID, store.Priority = 7, 2
        store.AffectedSOPClassUID, store.AffectedSOPInstanceUID = CR, "1.2.3"
        message = C_STORE_RQ()
        store.DataSet = None
        message.primitive_to_message(store)
        data = b"".join(
            fragment[1:] for pdata in message.encode_msg(1, 0) for _, fragment in pdata.presentation_data_value_list
        )
        command = Command.decode(data)
        assert (command.field, command.message_id) == (1, 7)
        assert (command.sop_class_uid, command.sop_instance_uid) == (CR, "1.2.3")

    def test_an_answer_says_what_it_answers(self):
        command = Command(0x0001, 9, True, CR, "1.2.3")
        answer = command.response(Status.OUT_OF_RESOURCES)
        assert struct.unpack_from("<I", answer, 8)[0] == len(answer) - 12
        again = Command.decode(answer)
        assert (again.field, again.message_id, again.has_dataset) == (0x8001, 9, False)
        assert (again.sop_class_uid, again.sop_instance_uid) == (CR, "1.2.3")
        assert struct.pack("<HHIH", 0, 0x0900, 2, 0xA700) in answer

    def test_a_uid_that_is_none_is_not_sent_back(self):
        assert b"evil" not in Command(1, 1, True, CR, "evil\n").response(Status.INVALID_INSTANCE)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_command_or_a_bad_one(self, data: bytes):
        try:
            Command.decode(data)
        except BadCommand:
            return

    @pytest.mark.parametrize("values", [{0x0100: b"\1\0"}, {0x0800: b"\1\1"}, {0x0100: b"\1", 0x0800: b"\1\1"}, {}])
    def test_a_command_without_its_field_or_type_is_refused(self, values: dict[int, bytes]):
        with pytest.raises(BadCommand):
            Command.decode(encode(values))


def request(calling="CT", called="WETREAD", contexts=((CR, [EXPLICIT]),), roles=(), **changes) -> memoryview:
    asked = A_ASSOCIATE()
    asked.calling_ae_title, asked.called_ae_title = calling, called
    asked.application_context_name = changes.get("application", "1.2.840.10008.3.1.1.1")
    proposed = []
    for number, (abstract, transfer) in enumerate(contexts):
        proposed.append(build_context(abstract, transfer))
        proposed[-1].context_id = 2 * number + 1
    asked.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    asked.user_information = [length, implementation]
    for uid, scu, scp in roles:
        role = SCP_SCU_RoleSelectionNegotiation()
        role.sop_class_uid, role.scu_role, role.scp_role = uid, scu, scp
        asked.user_information.append(role)
    pdu = A_ASSOCIATE_RQ(asked)
    pdu.protocol_version = changes.get("version", 1)
    return memoryview(pdu.encode())[6:]


class TestNegotiation:
    @pytest.mark.parametrize(
        ("who", "codes"),
        [
            ({"called": "SOMEBODY"}, (1, 1, 7)),
            ({"calling": "SOMEBODY"}, (1, 1, 3)),
            ({"calling": "TIED"}, (1, 1, 3)),
            ({"application": "1.2.3"}, (1, 1, 2)),
            ({"version": 2}, (1, 2, 2)),
        ],
    )
    def test_a_stranger_is_rejected_with_the_standards_reason(self, who: dict, codes: tuple):
        with pytest.raises(Rejected) as caught:
            read_request(request(**who), SETTINGS, "10.0.0.7")
        answer = A_ASSOCIATE_RJ()
        answer.decode(caught.value.pdu())
        assert (answer.result, answer.source, answer.reason_diagnostic) == codes

    @pytest.mark.parametrize(
        ("calling", "called", "stat"),
        [("CT", "WETREAD", False), ("CT", "WETREAD_STAT", True), ("URGENT", "WETREAD", True)],
    )
    def test_stat_is_known_at_the_door(self, calling: str, called: str, stat: bool):
        assert read_request(request(calling, called), SETTINGS, "10.0.0.7").stat is stat

    def test_a_tied_title_is_good_from_its_address(self):
        assert read_request(request("TIED"), SETTINGS, "10.0.0.1").calling_ae == "TIED"

    def test_every_transfer_syntax_of_every_storage_class_is_kept_as_sent(self):
        private = "1.2.392.200036.9116.7.8.1.1.1"
        unheard = "1.2.840.10008.5.1.4.1.1.999.1"
        contexts = [
            (CR, [J2K]),
            (CR, ["1.2.3.4"]),
            (private, [EXPLICIT]),
            (unheard, [IMPLICIT]),
            (VERIFICATION, [IMPLICIT]),
        ]
        agreed = agree(read_request(request(contexts=contexts), SETTINGS, "::1"), SETTINGS)
        assert [(c.abstract_syntax, [c.transfer_syntax]) for c in agreed.contexts.values()] == contexts
        answer = A_ASSOCIATE_AC()
        answer.decode(agreed.answer)
        assert [context.result for context in answer.presentation_context] == [0] * 5
        assert answer.user_information.maximum_length == SETTINGS.dicom.max_pdu
        assert agreed.largest == 16384

    def test_what_is_no_storage_is_refused_alone(self):
        find = "1.2.840.10008.5.1.4.1.2.2.1"
        agreed = agree(
            read_request(request(contexts=[(find, [IMPLICIT]), (CR, [IMPLICIT])]), SETTINGS, "::1"), SETTINGS
        )
        assert list(agreed.contexts) == [3]
        assert not is_storage(find)

    @pytest.mark.parametrize(
        ("roles", "result"),
        [((), 1), (((STORAGE_COMMITMENT, True, False),), None), (((STORAGE_COMMITMENT, False, True),), 0)],
    )
    def test_commitment_is_heard_and_never_promised(self, roles: tuple, result: int | None):
        asked = request(contexts=[(STORAGE_COMMITMENT, [IMPLICIT])], roles=roles)
        agreed = agree(read_request(asked, SETTINGS, "::1"), SETTINGS)
        answer = A_ASSOCIATE_AC()
        answer.decode(agreed.answer)
        (context,) = answer.presentation_context
        assert context.result == result if result is not None else context.result != 0
        assert bool(agreed.contexts) is (result == 0)

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore:.*VR UI")  # pydicom's, in production only logged
    @given(st.binary(max_size=300), st.integers(0, 250), st.integers(0, 255))
    def test_a_spoilt_request_is_a_bad_pdu_or_an_answer(self, tail: bytes, at: int, value: int):
        body = bytearray(request())
        body[at % len(body)] = value
        for spoilt in (body, body[: at % len(body)], body[:68] + tail):
            try:
                agree(read_request(memoryview(spoilt), SETTINGS, "::1"), SETTINGS)
            except (BadPdu, Rejected):
                continue


class TestWire:
    @pytest.fixture
    def ends(self):
        ours, theirs = socket.socketpair()
        wire = Wire(ours, Dicom(artim_s=60.0, slowest_bytes_per_s=1000))
        wire.allow_data(1000)
        yield wire, theirs
        wire.close()
        theirs.close()

    def test_a_pdu_comes_whole_however_it_is_cut(self, ends):
        wire, peer = ends
        pdu = data_pdu(1, bytes(range(200)), 0)
        sender = threading.Thread(target=lambda: [peer.sendall(pdu[at : at + 7]) for at in range(0, len(pdu), 7)])
        sender.start()
        received = wire.receive()
        sender.join()
        assert (received.type, bytes(received.body)) == (PduType.DATA, pdu[6:])

    @pytest.mark.parametrize(("kind", "length"), [(4, 1001), (4, 0xFFFFFFFF), (1, 1 << 20), (5, 5), (9, 4), (0, 0)])
    def test_a_length_beyond_reason_is_refused_before_anything_is_kept(self, ends, kind: int, length: int):
        wire, peer = ends
        peer.sendall(HEADER.pack(kind, length))
        with pytest.raises(BadPdu):
            wire.receive()

    def test_a_silent_peer_is_too_slow_and_a_closed_one_gone(self):
        ours, peer = socket.socketpair()
        wire = Wire(ours, Dicom(artim_s=0.3, slowest_bytes_per_s=1000))
        wire.allow_data(1000)
        peer.sendall(HEADER.pack(4, 100) + b"x")
        with pytest.raises(TooSlow):
            wire.receive()
        peer.close()
        with pytest.raises(Gone):
            wire.receive()
        wire.close()

    @pytest.mark.parametrize("largest", [0, 7, 30, 1000])
    def test_an_answer_is_cut_as_the_peer_wants(self, largest: int):
        data, at, parts = data_pdu(3, b"c" * 50, largest), 0, []
        while at < len(data):
            kind, length = HEADER.unpack_from(data, at)
            assert kind == PduType.DATA
            assert not largest or length <= largest
            parts.append(data[at + 6 : at + 6 + length])
            at += 6 + length
        assert b"".join(part[6:] for part in parts) == b"c" * 50
        assert [part[5] for part in parts] == [1] * (len(parts) - 1) + [3]
