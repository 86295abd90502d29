"""A file of tickets gives every ticket in it, and says of each line that is none where it is and why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refund_desk.ticket import Ticket
from refund_desk.tickets import TicketFile, bundled_tickets, read_tickets

pytestmark = pytest.mark.unit


def line(ticket_id: str, **fields: object) -> str:
    return json.dumps({"ticket_id": ticket_id, "customer": "Ada", "body": "broken"} | fields)


def read(tmp_path: Path, text: str | bytes, name: str = "tickets.jsonl") -> TicketFile:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tickets(path)


def ids(found: TicketFile) -> list[str]:
    return [ticket.ticket_id for ticket in found.tickets]


def reasons(found: TicketFile) -> dict[int, str]:
    return {malformed.line: malformed.reason for malformed in found.malformed}


def test_every_bundled_ticket_is_one_and_no_two_are_the_same() -> None:
    found = read_tickets(bundled_tickets())
    assert len(found.tickets) >= 50
    assert len({ticket.ticket_id for ticket in found.tickets}) == len(found.tickets)
    assert found.malformed == []


def test_json_lines_are_read_in_order_with_every_field(tmp_path: Path) -> None:
    found = read(tmp_path, line("T-1", order_id="ORD-1", subject="s") + "\n" + line("T-2") + "\n")
    assert found.tickets == [
        Ticket(ticket_id="T-1", customer="Ada", order_id="ORD-1", subject="s", body="broken"),
        Ticket(ticket_id="T-2", customer="Ada", body="broken"),
    ]


def test_a_malformed_line_is_reported_by_its_number_and_the_rest_go_on(tmp_path: Path) -> None:
    found = read(
        tmp_path, "\n".join([line("T-1"), "{not json", "", line("T 2"), line("T-3", colour="red"), line("T-4")])
    )
    assert ids(found) == ["T-1", "T-4"]
    assert sorted(reasons(found)) == [2, 4, 5]
    assert "Invalid JSON" in reasons(found)[2]
    assert reasons(found)[4].startswith("ticket_id: ")
    assert reasons(found)[5].startswith("colour: ")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"customer": ""}, "customer"),
        ({"customer": "x" * 201}, "customer"),
        ({"body": ""}, "body"),
        ({"body": "x" * 20_001}, "body"),
        ({"body": None}, "body"),
        ({"subject": "x" * 301}, "subject"),
        ({"order_id": "ORD 1"}, "order_id"),
        ({"ticket_id": ""}, "ticket_id"),
        ({"ticket_id": "x" * 65}, "ticket_id"),
        ({"ticket_id": "../x"}, "ticket_id"),
        ({"ticket_id": 7}, "ticket_id"),
    ],
)
def test_a_field_that_is_wrong_is_named(tmp_path: Path, fields: dict[str, object], field: str) -> None:
    found = read(tmp_path, line("T-1", **{k: v for k, v in fields.items() if k != "ticket_id"}))
    if "ticket_id" in fields:
        found = read(tmp_path, json.dumps({"customer": "Ada", "body": "b"} | fields))
    assert found.tickets == []
    assert reasons(found)[1].startswith(f"{field}: ")


def test_a_line_that_is_no_object_is_malformed(tmp_path: Path) -> None:
    found = read(tmp_path, "7\n[]\nnull\n" + line("T-1"))
    assert sorted(reasons(found)) == [1, 2, 3]
    assert ids(found) == ["T-1"]


def test_the_second_of_two_tickets_with_one_id_is_malformed_and_names_the_first(tmp_path: Path) -> None:
    found = read(tmp_path, "\n".join([line("T-1"), line("T-2"), line("T-1", body="another"), line("T-1")]))
    assert ids(found) == ["T-1", "T-2"]
    assert reasons(found) == dict.fromkeys((3, 4), "ticket_id 'T-1' was on line 1 already")


def test_a_malformed_line_does_not_take_the_id_of_a_good_one(tmp_path: Path) -> None:
    found = read(tmp_path, line("T-1", colour="red") + "\n" + line("T-1"))
    assert ids(found) == ["T-1"]
    assert sorted(reasons(found)) == [1]


def test_windows_line_ends_and_a_byte_order_mark_are_no_trouble(tmp_path: Path) -> None:
    found = read(tmp_path, ("\ufeff" + line("T-1") + "\r\n" + line("T-2") + "\r\n").encode())
    assert ids(found) == ["T-1", "T-2"]
    assert found.malformed == []


def test_characters_that_only_look_like_line_ends_stay_in_the_ticket(tmp_path: Path) -> None:
    body = "one\u2028two\u0085three"
    text = json.dumps({"ticket_id": "T-1", "customer": "Ada", "body": body}, ensure_ascii=False)
    assert read(tmp_path, text).tickets[0].body == body


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == TicketFile()
    assert read(tmp_path, "", "tickets.csv") == TicketFile()


def test_a_file_that_is_not_there_or_not_utf8_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tickets(tmp_path / "none.jsonl")
    with pytest.raises(UnicodeDecodeError):
        read(tmp_path, line("T-1").encode() + b"\n\xff\n")


CSV_HEADER = "ticket_id,customer,order_id,subject,body\n"


def test_csv_is_read_by_its_header_whatever_the_order_of_columns(tmp_path: Path) -> None:
    found = read(tmp_path, "body,ticket_id,customer\nbroken,T-1,Ada\n", "TICKETS.CSV")
    assert found.tickets == [Ticket(ticket_id="T-1", customer="Ada", body="broken")]


def test_an_empty_csv_cell_is_an_absent_field(tmp_path: Path) -> None:
    found = read(tmp_path, CSV_HEADER + "T-1,Ada,,,broken\nT-2,Ada,,,\n", "tickets.csv")
    assert found.tickets == [Ticket(ticket_id="T-1", customer="Ada", body="broken")]
    assert reasons(found) == {3: "body: Field required"}


def test_a_quoted_csv_cell_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    text = CSV_HEADER + 'T-1,"Lindqvist, Ada",,,"It is ""broken"".\nReally."\nT 2,Ada,,,b\n'
    found = read(tmp_path, text, "tickets.csv")
    assert found.tickets[0].customer == "Lindqvist, Ada"
    assert found.tickets[0].body == 'It is "broken".\nReally.'
    assert sorted(reasons(found)) == [4], "lines are those of the file, as an editor counts them"


def test_a_csv_row_with_too_few_or_too_many_cells_is_malformed(tmp_path: Path) -> None:
    found = read(tmp_path, CSV_HEADER + "T-1,Ada\nT-2,Ada,,,broken,and,more\nT-3,Ada,,,broken\n", "tickets.csv")
    assert ids(found) == ["T-3"]
    assert reasons(found)[2] == "body: Field required"
    assert "more columns than the header" in reasons(found)[3]


def test_a_csv_cell_too_large_to_parse_is_malformed_and_the_rest_go_on(tmp_path: Path) -> None:
    found = read(tmp_path, CSV_HEADER + f"T-1,Ada,,,{'x' * 200_000}\nT-2,Ada,,,broken\n", "tickets.csv")
    assert ids(found) == ["T-2"]
    assert sorted(reasons(found)) == [2]


def test_duplicates_are_found_in_csv_too(tmp_path: Path) -> None:
    found = read(tmp_path, CSV_HEADER + "T-1,Ada,,,one\n\nT-1,Ada,,,two\n", "tickets.csv")
    assert ids(found) == ["T-1"]
    assert reasons(found) == {4: "ticket_id 'T-1' was on line 2 already"}
