"""Labelled data sets from outside, in every form and with every fault."""

import csv
import json
from dataclasses import replace
from datetime import date
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sia_gen.core.errors import RequestError, WorkError
from sia_gen.hardening.labelled import UNLABELLED, UNREADABLE, read_labelled, upright

SIDE = 8


def picture(colour, size=(12, 12), mode="RGB"):
    return Image.new(mode, size, colour)


def png(image):
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folders(tmp_path):
    """Two red pictures, one blue, each in a folder named by its colour."""
    for name, colour, count in (("red", (255, 0, 0), 2), ("blue", (0, 0, 255), 1)):
        (tmp_path / name).mkdir()
        for index in range(count):
            picture(colour).save(tmp_path / name / f"{index}.png")
    return tmp_path


def test_a_folder_for_each_class(folders):
    found = read_labelled(folders, SIDE)
    assert found.classes == ("blue", "red")
    assert found.counts == [1, 2]
    assert found.images.shape == (3, 3, SIDE, SIDE)
    assert found.images[:, :, 0, 0].tolist() == [[0, 0, 255], [255, 0, 0], [255, 0, 0]]
    assert found.left_out == {}
    assert read_labelled(folders, SIDE, classes=["red", "green", "blue"]).counts == [2, 0, 1]


@pytest.mark.parametrize("names", [list(range(11)), [1, 2], [20, 40, 100], ["-1", "0.5", "10", "nan"]], ids=str)
def test_folders_that_are_named_by_numbers(tmp_path, names):
    for index, name in enumerate(names):
        (tmp_path / str(name)).mkdir()
        picture((index, 0, 0)).save(tmp_path / str(name) / "0.png")
    found = read_labelled(tmp_path, SIDE)
    assert found.classes == tuple(map(str, names))
    assert found.labels.tolist() == found.images[:, 0, 0, 0].tolist() == list(range(len(names)))


def test_pictures_and_labels_are_told_from_others(folders):
    found = read_labelled(folders, SIDE)
    assert found.digest == read_labelled(folders, SIDE).digest
    others = replace(found, labels=1 - found.labels), replace(found, images=255 - found.images)
    assert len({found.digest, *(other.digest for other in others)}) == 3


def test_unreadable_pictures_are_left_out_and_counted(folders):
    (folders / "red" / "9.png").write_bytes(b"no picture")
    whole = (folders / "red" / "0.png").read_bytes()
    (folders / "red" / "8.png").write_bytes(whole[: len(whole) // 2])
    found = read_labelled(folders, SIDE)
    assert (found.counts, found.left_out) == ([1, 2], {UNREADABLE: 2})


def test_every_kind_of_picture_becomes_rgb_upright_and_square():
    def middle(image):
        return np.asarray(upright(image, SIDE))[SIDE // 2, SIDE // 2].tolist()

    assert middle(picture(100, mode="L")) == [100, 100, 100]
    assert middle(picture((10, 20, 30, 0), mode="RGBA")) == [255, 255, 255]
    assert middle(picture((10, 20, 30, 255), mode="RGBA")) == [10, 20, 30]
    assert middle(picture((100, 0), mode="LA")) == [255, 255, 255]
    assert middle(picture(1, mode="1")) == [255, 255, 255]
    assert middle(picture(65535, mode="I;16")) == [255, 255, 255]
    assert upright(picture((1, 2, 3), size=(40, 9)), SIDE).size == (SIDE, SIDE)
    turned = Image.new("RGB", (20, 20), "black")
    turned.paste("white", (0, 0, 20, 10))  # white above
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90° to the right: white comes to lie at the right
    buffer = BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    values = np.asarray(upright(Image.open(buffer), SIDE)).mean(axis=(0, 2))
    assert values[0] < 30
    assert values[-1] > 225


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_image_folder_with_metadata(folders, kind):
    rows = [("red/0.png", "warm"), ("red/1.png", ""), ("blue/0.png", "cold"), ("../outside.png", "cold")]
    picture((0, 0, 0)).save(folders.parent / "outside.png")
    entries = [{"file_name": name, "mood": label or None} for name, label in rows]
    if kind == "csv":
        with (folders / "metadata.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file_name", "mood"), *rows])
    elif kind == "jsonl":
        (folders / "metadata.jsonl").write_text("\n".join(map(json.dumps, entries)))
    else:
        pq.write_table(pa.Table.from_pylist(entries), folders / "metadata.parquet")
    found = read_labelled(folders, SIDE, columns=["label", "mood"])
    assert found.classes == ("cold", "warm")
    assert found.labels.tolist() == [1, 0]
    assert found.left_out == {UNLABELLED: 1, UNREADABLE: 1}


def packed(path, labels, names=None, pictures=None):
    """A Parquet file as `datasets` writes it."""
    pictures = pictures or [png(picture((255, 0, 0)))] * len(labels)
    table = pa.table({"image": [{"bytes": data, "path": None} for data in pictures], "label": labels})
    if names:
        features = {"label": {"names": names, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def test_a_parquet_folder_as_datasets_writes_it(tmp_path):
    packed(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1, -1], ["no", "yes", "never"])
    packed(tmp_path / "data" / "train-00001-of-00002.parquet", [1, None], ["no", "yes", "never"])
    packed(tmp_path / "data" / "test-00000-of-00001.parquet", [2], ["no", "yes", "never"])
    found = read_labelled(tmp_path, SIDE)
    assert found.classes == ("no", "yes", "never")
    assert found.counts == [1, 2, 0]
    assert found.left_out == {UNLABELLED: 2}
    turned = read_labelled(tmp_path, SIDE, classes=["never", "yes", "no"])  # a number is what the data set says it is
    assert (turned.classes, turned.counts) == (("never", "yes", "no"), [0, 2, 1])


def test_a_parquet_file_that_names_its_pictures(tmp_path):
    picture((255, 0, 0)).save(tmp_path / "one.png")
    (tmp_path / "data").mkdir()
    picture((255, 0, 0)).save(tmp_path / "data" / "one.png")
    inside, outside = (tmp_path / "data" / "one.png", tmp_path / "one.png")
    places = [{"bytes": None, "path": path} for path in (str(inside), "one.png", str(outside), "../one.png", None)]
    pq.write_table(pa.table({"image": places, "label": [0, 1, 0, 1, 1]}), tmp_path / "data" / "a.parquet")
    found = read_labelled(tmp_path / "data", SIDE)
    assert (found.counts, found.left_out) == ([1, 1], {UNREADABLE: 3})


def test_a_column_of_folders_and_classes_as_one_text_are_refused(folders):
    with pytest.raises(RequestError, match="has a folder for each class, and no column 'q'; leave --column out"):
        read_labelled(folders, SIDE, columns=["q"])
    with pytest.raises(RequestError, match="classes='red,blue' is one text; give a list of names"):
        read_labelled(folders, SIDE, classes="red,blue")


def test_values_are_cut_into_classes(tmp_path):
    packed(tmp_path / "a.parquet", [0.1, 0.5, None, 0.7, float("nan")])
    assert read_labelled(tmp_path, SIDE, cuts=[0.5]).labels.tolist() == [0, 1, 1]
    with pytest.raises(RequestError, match=r"values like 0\.1, no classes; say where they are cut"):
        read_labelled(tmp_path, SIDE)


@pytest.mark.parametrize(
    ("column", "values", "options", "found"),
    [
        ("age", [20, 40, 67], {"attribute": "age"}, [0, 1, 2]),
        ("age", [1, 2, 2], {"attribute": "age"}, [0, 0, 0]),
        ("age", [1, 2, 2], {}, [0, 0, 0]),  # no other column is named
        ("label", [0, 2, 1], {"attribute": "age"}, [0, 2, 1]),
        ("label", [20, 40, 67], {"attribute": "age"}, [0, 1, 2]),
        ("band", [0, 2, 1], {"attribute": "age", "columns": ["band"]}, [0, 2, 1]),
        ("eyeglasses", [-1, 1, -1], {"attribute": "glasses", "columns": ["eyeglasses"]}, [0, 1, 0]),
    ],
)
def test_whole_numbers_are_values_in_the_column_of_the_attribute_and_where_they_are_no_classes(
    folders, column, values, options, found
):
    lines = [f"{name},{value}" for name, value in zip(("red/0", "red/1", "blue/0"), values, strict=True)]
    (folders / "metadata.csv").write_text(f"file_name,{column}\n" + "\n".join(lines).replace(",", ".png,"))
    given = {"columns": ["age", "label"], "cuts": (30, 60)} | options
    assert read_labelled(folders, SIDE, **given).labels.tolist() == found


@pytest.mark.parametrize("value", [[1], {"a": 1}, date(2020, 1, 1), b"1"], ids=lambda value: type(value).__name__)
def test_labels_that_are_no_single_ones_are_refused(tmp_path, value):
    packed(tmp_path / "a.parquet", [value, value])
    with pytest.raises(RequestError, match=f"of type {type(value).__name__}, no name or number; name a column"):
        read_labelled(tmp_path, SIDE)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda folder: None, {}, "holds neither images in a folder for each class nor"),
        (lambda folder: packed(folder / "a.parquet", [0, 1]), {"columns": ["mood"]}, "unknown column 'mood'"),
        (lambda folder: packed(folder / "a.parquet", ["a", "b"]), {"classes": ["a"]}, "unknown class 'b'"),
        (lambda folder: packed(folder / "a.parquet", [0, 7]), {"classes": ["a", "b"]}, "is 7, but there are 2"),
        (lambda folder: packed(folder / "a.parquet", [0, 10**15]), {}, r"is 1e\+15, but there are"),
        (lambda folder: packed(folder / "a.parquet", ["a", "3"]), {}, "numbers and names mixed"),
        (lambda folder: packed(folder / "a.parquet", [None, None]), {}, "no labelled picture"),
        (lambda folder: (folder / "metadata.csv").write_text("name,label\na,b\n"), {}, "no column file_name"),
        (lambda folder: pq.write_table(pa.table({"label": [1]}), folder / "a.parquet"), {}, "no column of pictures"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path, make, options, message):
    make(tmp_path)
    with pytest.raises(RequestError, match=message):
        read_labelled(tmp_path, SIDE, **options)


def test_a_folder_that_is_not_there_and_damaged_tables(tmp_path):
    with pytest.raises(RequestError, match="is no folder"):
        read_labelled(tmp_path / "none", SIDE)
    (tmp_path / "metadata.jsonl").write_text("{")
    with pytest.raises(WorkError, match="cannot read"):
        read_labelled(tmp_path, SIDE)
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(WorkError, match="cannot read"):
        read_labelled(tmp_path, SIDE)
