"""Exports of Amazon Personalize and Gorse are read as they are."""

from __future__ import annotations

from tests.recsys.ingest.folder import Folder, of_kind, reasons


def test_amazon_personalize_is_read_as_it_is(folder: Folder) -> None:
    folder.csv(
        "items",
        "ITEM_ID,CREATION_TIMESTAMP,GENRES,PRICE,STUDIO,TAGS",
        "0001,1570003267,Action|Crime,9.99,Gaumont,a|b",
        "2,1571730101,Drama,,,",
    )
    folder.csv(
        "interactions",
        "USER_ID,ITEM_ID,EVENT_TYPE,EVENT_VALUE,TIMESTAMP,DEVICE",
        "196,0001,click,15,881250949,phone",
        "186,2,watch,,891717742,",
    )
    folder.csv("users", "USER_ID,AGE,PLAN", "196,34,student|monthly")
    validated = folder.validate()
    assert validated.summary.n_quarantined == 0
    assert {file.dialect for file in validated.summary.files} == {"personalize"}
    first, second = validated.items.to_pylist()
    assert (first["item_id"], first["categories"], first["price"]) == ("0001", ["Action", "Crime"], 9.99)
    assert first["attributes"] == '{"creation_timestamp":1570003267,"studio":"Gaumont","tags":["a","b"]}'
    assert second["attributes"] == '{"creation_timestamp":1571730101}'
    click, watch = validated.interactions.to_pylist()
    assert (click["user_id"], click["event_type"], click["value"]) == ("196", "click", 15.0)
    assert (click["occurred_at_ms"], watch["occurred_at_ms"]) == (881_250_949_000, 891_717_742_000)
    assert (click["context"], watch["context"]) == ('{"device":"phone"}', None)
    assert validated.users is not None
    assert validated.users["attributes"].to_pylist() == ['{"age":34,"plan":["student","monthly"]}']


def test_gorse_csv_is_read_as_it_is(folder: Folder) -> None:
    folder.write(
        "items.csv",
        "item_id,is_hidden,categories,time_stamp,labels,description\r\n"
        '1,false,a|b,2020-01-01 01:01:01 +0000 UTC,"[""x"",""y""]","one, two"\r\n'
        "2,true,,0001-01-01 00:00:00 +0000 UTC,null,\r\n",
    )
    folder.write(
        "feedback.csv",
        "feedback_type,user_id,item_id,time_stamp\r\n"
        "read,u1,1,2026-01-01 08:00:00 +0800 CST\r\n"
        "star,u1,2,2026-01-01 00:00:00.5 +0000 UTC\r\n",
    )
    folder.write("users.csv", 'user_id,labels\r\nu1,"{""city"":""Bonn""}"\r\n')
    validated = folder.validate()
    assert reasons(validated) == []
    assert {file.dialect for file in validated.summary.files} == {"gorse"}
    first, second = validated.items.to_pylist()
    assert (first["categories"], first["description"], first["hidden"]) == (["a", "b"], "one, two", False)
    assert first["attributes"] == '{"created_at":"2020-01-01 01:01:01 +0000 UTC","labels":["x","y"]}'
    assert (second["hidden"], second["attributes"]) == (True, None)
    assert validated.interactions["event_type"].to_pylist() == ["read", "star"]
    assert validated.interactions["occurred_at_ms"].to_pylist() == [1_767_225_600_000, 1_767_225_600_500]
    assert validated.users is not None
    assert validated.users["attributes"].to_pylist() == ['{"city":"Bonn"}']


def test_gorse_json_lines_are_read_as_they_are(folder: Folder) -> None:
    folder.jsonl(
        "items",
        [
            {
                "ItemId": "1",
                "IsHidden": False,
                "Categories": ["a"],
                "Timestamp": "2020-01-01T01:01:01Z",
                "Labels": {"embedding": [0.1], "topics": ["x"]},
                "Comment": "one",
            }
        ],
    )
    folder.jsonl(
        "feedback",
        [
            {
                "FeedbackType": "star",
                "UserId": "u",
                "ItemId": "1",
                "Value": 2,
                "Timestamp": "2026-01-01T00:00:00Z",
                "Updated": "2026-01-02T00:00:00Z",
                "Labels": None,
                "Comment": "",
            }
        ],
    )
    folder.jsonl("users", [{"UserId": "u", "Labels": None, "Comment": "likes films"}])
    validated = folder.validate()
    assert reasons(validated) == []
    [item] = validated.items.to_pylist()
    assert (item["description"], item["categories"]) == ("one", ["a"])
    [event] = validated.interactions.to_pylist()
    assert (event["event_type"], event["value"], event["occurred_at_ms"]) == ("star", 2.0, 1_767_225_600_000)
    assert of_kind(validated, "interactions").ignored_columns == ("Updated", "Labels", "Comment")
    assert validated.users is not None
    assert validated.users["text"].to_pylist() == ["likes films"]


def test_the_e_commerce_names_of_personalize_are_known(folder: Folder) -> None:
    folder.csv("items", "ITEM_ID,PRICE,CATEGORY_L1,PRODUCT_DESCRIPTION", "1,2,Shoes,Red ones")
    folder.csv("interactions", "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE", "u,1,1700000000,View")
    [item] = folder.validate().items.to_pylist()
    assert (item["categories"], item["description"], item["attributes"]) == (["Shoes"], "Red ones", None)


def test_a_mapping_of_ones_own_wins_over_the_dialect(folder: Folder) -> None:
    folder.csv("items", "ITEM_ID,STYLE", "1,Shoes|Red")
    folder.csv("interactions", "USER_ID,ITEM_ID,TIMESTAMP", "u,1,1700000000000")
    validated = folder.validate(columns={"items": {"categories": "STYLE"}}, time_format="epoch_ms")
    assert validated.items["categories"].to_pylist() == [["Shoes", "Red"]]
    assert validated.items["attributes"].to_pylist() == [None]
    assert validated.interactions["occurred_at_ms"].to_pylist() == [1_700_000_000_000]
