"""Folders in the layouts that data sets come in, broken files among them."""

import json

import pytest
import trimesh

from lib.data.datasets import open_dataset
from lib.errors import BadInput


def write_mesh(path, size=(1, 2, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.creation.box(size).export(path)


def future(root):
    """3D-FUTURE as published: five models, one of them without its mesh, one not downloaded, one not listed."""
    info = [
        {"model_id": "a1", "super-category": "Chair", "category": "Lounge Chair / Cafe Chair / Office Chair"},
        {"model_id": "b2", "super-category": "Sofa", "category": None, "style": None},
        {"model_id": "c3", "super-category": None, "category": None, "style": None},
        {"model_id": "d4", "super-category": "Bed", "category": "Kids Bed"},
        {"model_id": "elsewhere", "super-category": "Bed", "category": "Kids Bed"},
    ]
    for id in ("c3", "a1", "b2", "unlisted"):
        write_mesh(root / id / "raw_model.obj")
        write_mesh(root / id / "normalized_model.obj")
    (root / "a1/image.jpg").write_bytes(b"")
    (root / "d4").mkdir()
    (root / "model_info.json").write_text(json.dumps(info))


@pytest.mark.parametrize("nested", ["", "3D-FUTURE-model", "3D-FUTURE-model-part1"])
def test_3d_future(tmp_path, nested):
    future(tmp_path / nested)
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "3D-FUTURE"
    assert dataset.ids == ["a1", "b2", "c3", "d4", "unlisted"]
    assert list(dataset.categories.values()) == [
        "Lounge Chair / Cafe Chair / Office Chair",
        "Sofa",
        "unknown",
        "Kids Bed",
        "unknown",
    ]
    chair = dataset.load("a1")
    assert (chair.id, chair.category) == ("a1", dataset.categories["a1"])
    assert chair.mesh.extents == pytest.approx([0.25, 1, 0.5])  # y of the file is up
    assert dataset.image("a1") == tmp_path / nested / "a1/image.jpg"
    assert dataset.image("b2") is None


def test_3d_future_model_without_its_mesh_is_skipped_and_counted(tmp_path):
    future(tmp_path)
    dataset = open_dataset(tmp_path)
    assert [thing.id for thing in dataset] == ["a1", "b2", "c3", "unlisted"]
    assert len(dataset.skipped) == 1
    assert dataset.skipped[0].source.endswith("raw_model.obj")


def test_3d_future_without_its_list_has_unknown_categories(tmp_path):
    future(tmp_path)
    (tmp_path / "model_info.json").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "3D-FUTURE"
    assert set(dataset.categories.values()) == {"unknown"}


@pytest.mark.parametrize("text", ['{"a1": {"category_id": 3}}', "[{}]", "[3]", "not json", "3"])
def test_another_model_info_is_bad_input(tmp_path, text):
    future(tmp_path)
    (tmp_path / "model_info.json").write_text(text)
    with pytest.raises(BadInput, match="3D-FRONT-ToolBox") as error:
        open_dataset(tmp_path)
    assert error.value.source.endswith("model_info.json")


def scanned(root):
    for name in ("Sofa_Red", "Chair_Blue"):
        write_mesh(root / name / "meshes/model.obj")
    metadata = 'name: "Sofa"\nannotations {\n  brand: "B"\n}\ncategories {\n  first: "Toys / Dolls"\n  second: "x"\n}\n'
    (root / "Sofa_Red/metadata.pbtxt").write_text(metadata)
    (root / "Sofa_Red/thumbnails").mkdir()
    (root / "Sofa_Red/thumbnails/0.jpg").write_bytes(b"")
    (root / "Broken").mkdir()
    (root / "Broken/metadata.pbtxt").write_text('name: "Broken"\n')


def test_google_scanned_objects(tmp_path):
    scanned(tmp_path)
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "Google Scanned Objects"
    assert dataset.categories == {"Broken": "unknown", "Chair_Blue": "unknown", "Sofa_Red": "Toys / Dolls"}
    assert dataset.load("Sofa_Red").mesh.extents == pytest.approx([0.25, 0.5, 1])  # z of the file is up
    assert dataset.image("Sofa_Red") == tmp_path / "Sofa_Red/thumbnails/0.jpg"
    assert [thing.id for thing in dataset] == ["Chair_Blue", "Sofa_Red"]
    assert len(dataset.skipped) == 1


def test_any_folder_of_meshes(tmp_path):
    for name in ("chairs/z.obj", "chairs/old/a.GLB", "lamp.v2.ply", "chairs/z.stl", ".trash/b.glb", "chairs/._z.obj"):
        write_mesh(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a mesh")
    (tmp_path / "folder.glb").mkdir()
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "folder"
    assert dataset.categories == {
        "chairs/old/a": "old",
        "chairs/z.obj": "chairs",
        "chairs/z.stl": "chairs",
        "lamp.v2": "unknown",
    }
    assert dataset.ids == sorted(dataset.ids)
    assert dataset.load("chairs/old/a").mesh.extents == pytest.approx([0.25, 1, 0.5])


@pytest.mark.parametrize("layout", [future, scanned, lambda root: write_mesh(root / "a/b.glb")])
def test_up_axis_can_be_set_for_a_whole_folder(tmp_path, layout):
    layout(tmp_path)
    for up_axis, extents in {"x": [0.5, 1, 0.25], "y": [0.25, 1, 0.5], "z": [0.25, 0.5, 1]}.items():
        assert next(iter(open_dataset(tmp_path, up_axis))).mesh.extents == pytest.approx(extents)


def test_corrupt_files_are_skipped_counted_and_listed(tmp_path):
    for name in "abcd":
        write_mesh(tmp_path / f"{name}.glb")
    (tmp_path / "b.glb").write_bytes((tmp_path / "b.glb").read_bytes()[:-50])
    (tmp_path / "d.glb").write_bytes(b"")
    dataset = open_dataset(tmp_path)
    for _ in range(2):  # the list is of the last pass, it does not grow
        assert [thing.id for thing in dataset] == ["a", "c"]
        assert [error.source for error in dataset.skipped] == [str(tmp_path / "b.glb"), str(tmp_path / "d.glb")]
    assert "empty" in str(dataset.skipped[1])
    with pytest.raises(BadInput, match="empty"):
        dataset.load("d")


def test_subset_depends_on_ids_and_seed_alone(tmp_path):
    names = [f"{letter}{digit}" for letter in "abcd" for digit in range(5)]
    for folder, order in {"one": names, "two": names[::-1]}.items():
        for name in order:
            write_mesh(tmp_path / folder / f"{name}.stl")
    first, second = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "two")
    assert first.subset(6, seed=0).ids == second.subset(6, seed=0).ids
    assert len(set(first.subset(6, seed=0).ids)) == len(first.subset(6, seed=0)) == 6
    assert set(first.subset(6, seed=0).ids) < set(first.subset(12, seed=0).ids)
    assert len({tuple(first.subset(6, seed).ids) for seed in range(5)}) == 5
    assert first.subset(6, seed=0).ids == sorted(first.subset(6, seed=0).ids)
    assert first.subset(6, seed=0).load(first.subset(6, seed=0).ids[0]).mesh.extents.max() == pytest.approx(1)


def test_bad_folders_and_requests_are_named(tmp_path):
    with pytest.raises(BadInput, match="is not a folder"):
        open_dataset(tmp_path / "none")
    with pytest.raises(BadInput, match=r"holds no meshes.*\.glb"):
        open_dataset(tmp_path)
    write_mesh(tmp_path / "a.glb")
    with pytest.raises(BadInput, match="x, y, z"):
        open_dataset(tmp_path, up_axis="up")
    with pytest.raises(BadInput, match="'a'"):
        open_dataset(tmp_path).load("b")
    for n in (0, 2):
        with pytest.raises(BadInput, match="Give 1 to 1"):
            open_dataset(tmp_path).subset(n, seed=0)
