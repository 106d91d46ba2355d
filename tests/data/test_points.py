"""Shapes as points: files of five formats, drawing by area, exact units, and Sweet Home 3D's catalogue."""

from __future__ import annotations

import math
import zipfile

import numpy as np
import pytest
import torch

import sfumato as sf
from sfumato.data import points

# A tetrahedron's corners and faces, one of them a square of another plane for the fans.
CORNERS = np.array([[0, 0, 0], [2, 0, 0], [2, 1, 0], [0, 1, 0], [0, 0, 3]], float)
FACES = [[0, 1, 2, 3], [0, 1, 4]]
TRIANGLES = CORNERS[[[0, 1, 2], [0, 2, 3], [0, 1, 4]]]


def seeds(n):
    return sf.Seeds(range(n))


def obj(backwards=False):
    faces = [[n - len(CORNERS) if backwards else n + 1 for n in face] for face in FACES]
    lines = [f"v {x} {y} {z} 0.5 0.5 0.5" for x, y, z in CORNERS] + ["vt 0 0", "# a line", "o thing"]
    return "\n".join(lines + ["f " + " ".join(f"{n}/1/1" for n in face) for face in faces])


def off(space=" "):
    rows = [" ".join(map(str, row)) for row in CORNERS] + [f"{len(f)} {' '.join(map(str, f))}" for f in FACES]
    return f"OFF{space}5 2 0 # counts\n" + "\n".join(rows)


def stl(binary):
    if binary:
        body = b"".join(np.zeros(3, "<f4").tobytes() + t.astype("<f4").tobytes() + b"\0\0" for t in TRIANGLES)
        return b"solid, it says".ljust(80) + len(TRIANGLES).to_bytes(4, "little") + body
    corner = "\n".join(
        "facet normal 0 0 1\nouter loop\n" + "\n".join(f"vertex {x} {y} {z}" for x, y, z in t) + "\nendloop\nendfacet"
        for t in TRIANGLES
    )
    return f"solid name\n{corner}\nendsolid".encode()


def ply(form, index="vertex_indices", end="\n"):
    head = [
        "ply",
        f"format {form} 1.0",
        "comment by hand",
        "element vertex 5",
        "property uchar red",
        "property double x",
    ]
    head += ["property float y", "property float z", "element edge 1", "property int a", "element face 2"]
    head += [f"property list uchar int {index}", "property uchar flag", "end_header", ""]
    if form == "ascii":
        rows = [f"7 {x} {y} {z}" for x, y, z in CORNERS] + ["3"]
        rows += [f"{len(f)} {' '.join(map(str, f))} 9" for f in FACES]
        return (end.join(head) + "\n".join(rows)).encode()
    o = ">" if "big" in form else "<"
    body = b"".join(
        b"\7" + np.array(x, o + "f8").tobytes() + np.array([y, z], o + "f4").tobytes() for x, y, z in CORNERS
    )
    body += np.array(3, o + "i4").tobytes()
    body += b"".join(bytes([len(f)]) + np.array(f, o + "i4").tobytes() + b"\x09" for f in FACES)
    return end.join(head).encode() + body


FILES = {
    "a.obj": obj(),
    "backwards.OBJ": obj(True),
    "a.off": off(),
    "joined.off": off(""),
    "a.stl": stl(True),
    "text.stl": stl(False),
    "ascii.ply": ply("ascii"),
    "index.ply": ply("ascii", "vertex_index"),
    "little.ply": ply("binary_little_endian"),
    "windows.ply": ply("binary_little_endian", end="\r\n"),
    "big.ply": ply("binary_big_endian"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_triangles(tmp_path, name):
    content = FILES[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert np.allclose(points.read_shape(tmp_path / name), TRIANGLES)


def test_files_without_faces_are_clouds(tmp_path):
    rows = "\n".join(" ".join(map(str, row)) for row in CORNERS)
    (tmp_path / "a.xyz").write_text(f"# x y z\n{rows}\n\n")
    (tmp_path / "a.obj").write_text("\n".join(f"v {row}" for row in rows.splitlines()))
    for name in ("a.xyz", "a.obj"):
        assert np.array_equal(points.read_shape(tmp_path / name), CORNERS)


def test_what_is_written_is_read(tmp_path):
    cloud = sf.Noise(0).normal(torch.zeros(3, 7))
    points.write_ply(tmp_path / "a.ply", cloud)
    assert np.array_equal(points.read_shape(tmp_path / "a.ply"), cloud.T.numpy())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.obj", "v 0 0 0\nf 1 2 3", "damaged or no OBJ file .*names corner 2 of 1"),
        ("a.obj", "v 0 0 0\nv 1 0 0\nf 0 1 2", "count from 1"),
        ("a.obj", "v 0 0 0\nf -1 -2 -3", "damaged or no OBJ"),
        ("a.obj", "v 0 0 x", "damaged or no OBJ file"),
        ("a.obj", "v 0 0 inf", "not finite"),
        ("a.obj", "# nothing", "no points"),
        ("a.ply", "ply\nformat ascii 1.0\n", "header is not whole"),
        ("a.ply", "plx\nend_header\n", "header is not whole"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nend_header\n1", "no PLY"),
        ("a.off", "FOO 1 2 3", "begin with OFF"),
        ("a.off", "OFF 3 0 0 1 2", "no OFF file"),
        ("a.stl", "nothing", "too short for its header"),
        ("a.dae", "x", "shapes are .obj, .ply"),
        ("a.obj", "", "empty"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        points.read_shape(tmp_path / name)


def test_areas():
    assert points.areas(TRIANGLES).tolist() == [1.0, 1.0, 3.0]


def test_points_are_uniform_by_area_and_inside():
    """1/5, 1/5 and 3/5 of them on the faces; means and second moments of a triangle."""
    n = 40_000
    u = sf.Noise(0).uniform(torch.empty(n, 3, dtype=torch.float64))
    shape = torch.from_numpy(TRIANGLES)
    x = points.draw(shape, torch.from_numpy(points.areas(TRIANGLES).cumsum()), u)
    side = x[:, 2] > 0
    assert float(side.double().mean()) == pytest.approx(0.6, abs=4 * math.sqrt(0.24 / n))
    assert bool((x[:, 0] / 2 + x[:, 2] / 3 <= 1 + 1e-9)[side].all()) and bool((x[side, 1] == 0).all())
    assert bool((x >= 0).all() and (x[~side] <= torch.tensor([2.0, 1.0, 0.0])).all())
    # On (0, 0), (2, 0), (0, 3): means 2/3 and 1, variances b^2 / 18, covariance -b c / 36.
    part = x[side][:, [0, 2]]
    assert torch.allclose(part.mean(0), torch.tensor([2 / 3, 1.0]).double(), atol=0.02)
    assert torch.allclose(part.T.cov(), torch.tensor([[4 / 18, -6 / 36], [-6 / 36, 9 / 18]]).double(), atol=0.015)
    # The rectangle of two halves is filled evenly.
    assert torch.allclose(x[~side].T[:2].cov(), torch.diag(torch.tensor([4 / 12, 1 / 12])).double(), atol=0.015)


def test_the_unit_of_a_mesh_is_that_of_its_surface():
    """Integrals, against a fine midpoint rule; moving and scaling the shape changes nothing."""
    made = points.unit(TRIANGLES)
    n = 300
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    a, b = (i.ravel() + 1 / 3) / n, (j.ravel() + 1 / 3) / n
    flip = a + b > 1  # the other triangle of each small parallelogram
    a, b = np.where(flip, 1 - a, a), np.where(flip, 1 - b, b)
    total, square = np.zeros(3), 0.0
    for triangle, share in zip(made, (0.2, 0.2, 0.6), strict=True):
        x = triangle[0] + a[:, None] * (triangle[1] - triangle[0]) + b[:, None] * (triangle[2] - triangle[0])
        total, square = total + share * x.mean(0), square + share * (x**2).mean()
    assert np.allclose(total, 0, atol=2e-2) and square == pytest.approx(1.0, abs=2e-2)
    assert np.allclose(points.unit(7.0 * TRIANGLES + 3.0), made)


def test_the_unit_of_a_cloud():
    made = points.unit(CORNERS)
    assert np.allclose(made.mean(0), 0) and (made**2).mean() == pytest.approx(1.0)
    assert np.allclose(made * np.sqrt(((CORNERS - CORNERS.mean(0)) ** 2).mean()), CORNERS - CORNERS.mean(0))


def test_items_of_clouds_are_subsets_drawn_evenly_and_keyed_by_their_row():
    shapes = points.Clouds([CORNERS, CORNERS * 2 + 1], 3)
    assert len(shapes) == 2 and shapes.event == (3, 3)
    whole = {tuple(row) for row in points.unit(CORNERS).astype(np.float32).tolist()}
    x0, cond = shapes.batch([0, 1] * 400, seeds(800))
    assert cond is None and x0.dtype == torch.float32
    counts = dict.fromkeys(whole, 0)
    for cloud in x0:
        rows = [tuple(row) for row in cloud.T.tolist()]
        assert len(set(rows)) == 3  # without repetition
        for row in rows:
            nearest = min(whole, key=lambda w: sum((a - b) ** 2 for a, b in zip(w, row, strict=True)))
            assert np.allclose(nearest, row, atol=1e-6)
            counts[nearest] += 1
    for count in counts.values():  # each corner in 3 / 5 of the items
        assert abs(count - 480) < 4 * math.sqrt(800 * 0.24)
    assert torch.equal(shapes.batch([0], sf.Seeds([6]))[0][0], x0[6])


def test_a_folder_an_array_and_what_they_refuse(tmp_path):
    with pytest.raises(FileNotFoundError, match="no shape below"):
        points.Clouds.read(tmp_path)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.obj").write_text(obj())
    (tmp_path / ".hidden.obj").write_text("v")
    source = points.Clouds.read(tmp_path, 50)
    assert len(source) == 1 and source.batch([0], seeds(1))[0].shape == (1, 3, 50)
    array = points.Clouds.of_array(np.stack([CORNERS, CORNERS]).astype(np.float32))
    assert len(array) == 2 and array.event == (3, 5)
    assert points.Clouds.of_array(np.stack([CORNERS]), 4).event == (3, 4)
    for wrong in (CORNERS, np.zeros((2, 5, 2)), np.zeros((2, 5, 3), int), np.full((2, 5, 3), np.nan)):
        with pytest.raises(ValueError, match=r"clouds are finite floats \(N, points, 3\)"):
            points.Clouds.of_array(wrong)
    with pytest.raises(ValueError, match="shape 0 has 5 points, an item 6"):
        points.Clouds([CORNERS], 6)
    with pytest.raises(ValueError, match="chair: the faces have no area"):
        points.Clouds([TRIANGLES[:1] * 0 + 1], 4, ["chair"])
    with pytest.raises(ValueError, match="one point"):
        points.Clouds([CORNERS * 0 + 1], 4)
    with pytest.raises(ValueError, match="no shapes"):
        points.Clouds([])


def test_furniture_of_a_catalogue(tmp_path):
    with pytest.raises(FileNotFoundError, match="apt-get download sweethome3d-furniture"):
        points.furniture(tmp_path)
    folder = tmp_path / "usr/share/sweethome3d/furniture"
    folder.mkdir(parents=True)
    said = ["id=x", "name#1=Old Chair", "model#1=/a/chair.obj", "name#2=Armchair", "model#2=b.obj", "name#3=Flat chair"]
    said += ["model#3=flat.obj", "name#4=Chair of another kind", "model#4=c.zip"]
    with zipfile.ZipFile(folder / "Set.sh3f", "w") as held:
        held.writestr("PluginFurnitureCatalog.properties", "\n".join(said))
        held.writestr("a/chair.obj", obj())
        held.writestr("b.obj", obj())
        held.writestr("flat.obj", "v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3")
    shapes, names = points.furniture(tmp_path, "chair")
    assert names == ["Old Chair"] and np.allclose(shapes[0], TRIANGLES)
    assert points.furniture(tmp_path)[1] == ["Old Chair", "Armchair"]
