"""Benchmark sets by name, on tiny trees. Each file's grey says what it is, so that a wrong pair is seen at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

import sfumato as sf
from sfumato.data.layouts import LAYOUTS, clean, pairs, parse
from sfumato.data.pairing import Clean

# set: (split, {degraded: clean} below the folder of the set, other files that must not be taken)
TREES: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "div2k-x4": ("test", {f"DIV2K_valid_LR_bicubic/X4/080{i}x4.png": f"DIV2K_valid_HR/080{i}.png" for i in (1, 2)},
                 ["DIV2K_train_LR_bicubic/X4/0001x4.png", "DIV2K_valid_LR_bicubic/X2/0801x2.png"]),
    "div2k-x2": ("train", {"DIV2K_train_LR_bicubic/X2/0001x2.png": "DIV2K_train_HR/0001.png"}, []),
    "flickr2k-x3": ("train", {"Flickr2K_LR_bicubic/X3/000001x3.png": "Flickr2K_HR/000001.png"}, []),
    "set5-x4": ("test", {"image_SRF_4/img_001_SRF_4_LR.png": "image_SRF_4/img_001_SRF_4_HR.png"},
                ["image_SRF_2/img_001_SRF_2_LR.png"]),
    "realsr-x4": ("test", {f"{c}/Test/4/{c}_001_LR4.png": f"{c}/Test/4/{c}_001_HR.png" for c in ("Canon", "Nikon")},
                  ["Canon/Train/4/Canon_002_LR4.png", "Canon/Test/2/Canon_001_LR2.png"]),
    "drealsr-x4": ("train", {"Train_x4/train_LR/Canon_1_x1.png": "Train_x4/train_HR/Canon_1_x4.png"}, []),
    "gopro": ("test", {f"test/GOPR{k}/blur/00004{i}.png": f"test/GOPR{k}/sharp/00004{i}.png"
                       for k in ("0384_11_00", "0385") for i in (1, 2)},
              ["test/GOPR0385/blur_gamma/000041.png", "train/GOPR1/blur/000041.png"]),
    "gopro-gamma": ("train", {"train/GOPR1/blur_gamma/1.png": "train/GOPR1/sharp/1.png"}, ["train/GOPR1/blur/1.png"]),
    "hide": ("test", {"test/test-close-ups/1.png": "GT/1.png", "test/test-long-shot/2.png": "GT/2.png"}, ["GT/3.png"]),
    "reds": ("test", {"val/val_blur/000/00000001.png": "val/val_sharp/000/00000001.png"}, []),
    "cbsd68-25": ("test", {"noisy25/0000.png": "original_png/0000.png"}, ["noisy50/0000.png"]),
    "rain100h": ("test", {"rainy/rain-001.png": "norain-001.png", "rainy/rain-002.png": "norain-002.png"}, []),
    "rain100l": ("train", {"rain_data_train_Light/rain/X2/norain-1x2.png": "rain_data_train_Light/norain-1.png"}, []),
    "rain13k": ("Test100", {"test/Test100/input/1.png": "test/Test100/target/1.jpg"}, ["test/Test1200/input/1.png"]),
    "ddn": ("train", {f"training/rainy_image/901_{i}.jpg": "training/ground_truth/901.jpg" for i in (1, 2)}, []),
    "outdoor-rain": ("train", {"train/data/im_0001_s80_a04.png": "train/gt/im_0001.png",
                               "train/data/im_0351_s80_a04.png": "train/gt/im_0351.png"},
                     ["train/data/im_0301_s80_a04.png", "train/data/im_0350_s80_a05.png"]),
    "raindrop": ("test", {"test_a/data/0_rain.png": "test_a/gt/0_clean.png"}, ["test_b/data/0_rain.png"]),
    "allweather": ("train", {"input/im_1.png": "gt/im_1.jpg"}, []),
    "snow100k": ("M", {"media/jdway/GameSSD/overlapping/test/Snow100K-M/synthetic/a_1.jpg":
                       "media/jdway/GameSSD/overlapping/test/Snow100K-M/gt/a_1.jpg"},
                 ["media/jdway/GameSSD/overlapping/test/Snow100K-L/synthetic/a_1.jpg",
                  "media/jdway/GameSSD/overlapping/test/Snow100K-M/mask/a_1.jpg"]),
    "csd": ("train", {"Train/Snow/1.tif": "Train/Gt/1.tif"}, ["Train/Mask/1.tif"]),
    "srrs": ("test", {"test2000/Snow/1.png": "test2000/Gt/1.png"}, []),
    "its": ("train", {"hazy/1_1_0.90179.png": "clear/1.png", "hazy/10_1_0.9.png": "clear/10.png"}, ["trans/1_1.png"]),
    "ots": ("train", {"hazy/part1/0005_0.8_0.2.jpg": "clear/0005.jpg"}, []),
    "sots-indoor": ("test", {"indoor/hazy/1400_1.png": "indoor/gt/1400.png"}, ["outdoor/hazy/0001_0.8_0.2.jpg"]),
    "sots-outdoor": ("test", {"outdoor/hazy/0001_0.8_0.2.jpg": "outdoor/clear/0001.png"}, []),
    "haze4k": ("train", {"train/haze/1_0.89_1.56.png": "train/gt/1.png"}, ["train/trans/1.png"]),
    "dense-haze": ("test", {"hazy/01_hazy.png": "GT/01_GT.png"}, []),
    "nh-haze": ("test", {"01_hazy.png": "01_GT.png"}, []),
    "istd": ("test", {"test/test_A/1-1.png": "test/test_C/1-1.png"}, ["test/test_B/1-1.png"]),
    "istd+": ("train", {"train/train_A/1-1.png": "train/train_C_fixed_ours/1-1.png"}, ["train/train_C/1-1.png"]),
    "srd": ("train", {"Train/shadow/IMG_0456.jpg": "Train/shadow_free/IMG_0456_no_shadow.jpg",
                      "Train/shadow/IMG_0457.jpg": "Train/shadow_free/IMG_0457.jpg"}, []),
    "lol": ("test", {"eval15/low/1.png": "eval15/high/1.png"}, ["our485/low/2.png"]),
    "lol-v2-real": ("train", {"Real_captured/Train/Low/low1.png": "Real_captured/Train/Normal/normal1.png"}, []),
    "lol-v2-synthetic": ("test", {"Synthetic/Test/Low/a.png": "Synthetic/Test/Normal/a.png"}, []),
    "lsrw": ("test", {"Huawei/Eval/low/1.jpg": "Huawei/Eval/high/1.jpg"}, []),
}  # fmt: skip


def write(path: Path, grey: int = 0, size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)
    return path


def tree(root: Path, name: str) -> tuple[str, dict[str, str]]:
    """The tiny tree of a set: pair i is grey 10 i + 5, degraded, and 10 i clean; junk is 250."""
    split, held, others = TREES[name]
    for other in others:
        write(root / other, 250)
    greys = {target: 10 * i for i, target in enumerate(dict.fromkeys(held.values()))}
    for degraded, target in held.items():
        write(root / degraded, greys[target] + 5)
        write(root / target, greys[target])
    for folder in {(root / path).parent for path in held}:
        (folder / "Thumbs.db").write_bytes(b"junk")
        (folder / "list.txt").write_text("junk")
        write(folder / ".hidden.png")
    return split, held


@pytest.mark.parametrize("name", TREES)
def test_a_set_pairs_as_it_is_laid_out(name: str, tmp_path: Path) -> None:
    split, held = tree(tmp_path / "x", name)
    for root in (tmp_path / "x", tmp_path):  # the folder of the set, or the one that holds it
        found = pairs(name, root, split)
        assert [p.input.relative_to(tmp_path / "x").as_posix() for p in found] == sorted(held)
        assert [p.target.relative_to(tmp_path / "x").as_posix() for p in found] == [held[k] for k in sorted(held)]
        assert [p.name for p in found] == [key.replace("/", "__") for key in sorted(held)]
        for pair in found:
            x, truth = pair.read()
            assert torch.allclose(255 * (x - truth), torch.full((1, 16, 24), 5.0), atol=1e-3)
        assert clean(name, root, split) == list(dict.fromkeys(tmp_path / "x" / held[k] for k in sorted(held)))


def test_other_forms_of_a_set(tmp_path: Path) -> None:
    forms = {
        "gopro": ("test/input/1.png", "test/target/1.png", "test"),
        "rain100h": ("testH/LQ/1.png", "testH/GT/1.png", "test"),
        "rain100l": ("RainTrainL/rain-1.png", "RainTrainL/norain-1.png", "train"),
        "ddn": ("testing/rainy_image/901_2.jpg", "testing/ground truth/901.jpg", "test"),
        "srd": ("test/shadow/a.jpg", "test/shadow_free/a_free.JPG", "test"),
        "spa": ("Testing/real_test_1000/rain/000.png", "Testing/real_test_1000/gt/000gt.png", "test"),
        "csd": ("test2000/Snow/1.png", "test2000/Gt/1.png", "test"),
        "rain13k": ("test/Rain100L/input/1.png", "test/Rain100L/target/1.png", "test"),
        "istd+": ("test/test_A/1.png", "test/test_C_fixed_official/1.png", "test"),
        "nh-haze": ("hazy/01_hazy.png", "GT/01_GT.png", "test"),
    }
    for name, (degraded, target, split) in forms.items():
        for path in (degraded, target):
            write(tmp_path / name / path)
        (pair,) = pairs(name, tmp_path / name, split)
        assert (pair.input, pair.target) == (tmp_path / name / degraded, tmp_path / name / target)


@pytest.mark.parametrize(("name", "file", "turned"), [
    ("realblur-j", "RealBlur_J_test_list.txt", False),
    ("realblur-r", "RealBlur_R_test_list.txt", False),
    ("spa", "Testing/real_test_1000.txt", True),
])  # fmt: skip
def test_sets_by_their_lists(name: str, file: str, turned: bool, tmp_path: Path) -> None:
    for scene in ("b", "a"):
        for part, grey in (("blur", 15), ("gt", 10)):
            write(tmp_path / f"scene_{scene}/{part}/{part}_1.png", grey)
    order = ("blur", "gt") if turned else ("gt", "blur")
    lines = [" ".join(f"{dot}scene_{s}/{part}/{part}_1.png" for part in order) for s, dot in (("b", "./"), ("a", "/"))]
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("\n".join(lines) + "\n\n")
    found = pairs(name, tmp_path)
    assert [p.input.relative_to(tmp_path).as_posix() for p in found] == [
        "scene_b/blur/blur_1.png",
        "scene_a/blur/blur_1.png",
    ]
    assert [p.target.parent.name for p in found] == ["gt", "gt"]
    (tmp_path / "scene_a/gt/gt_1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 have no clean picture: scene_a/blur/blur_1\.png"):
        pairs(name, tmp_path)
    (tmp_path / "scene_a/blur/blur_1.png").unlink()
    with pytest.raises(FileNotFoundError, match=rf"blur_1\.png is not there, and {Path(file).name} lists it"):
        pairs(name, tmp_path)
    (tmp_path / file).write_text("alone\n")
    with pytest.raises(ValueError, match="a line that is no pair of paths: 'alone'"):
        pairs(name, tmp_path)


def test_missing_partners_are_named_or_left_out(tmp_path: Path) -> None:
    for i in range(8):
        write(tmp_path / f"eval15/low/{i}.png")
    write(tmp_path / "eval15/high/3.png")
    with pytest.raises(FileNotFoundError, match=r"7 of 8 have no clean picture: eval15/low/0\.png, .*5\.png, \.\.\.\."):
        pairs("lol", tmp_path)
    assert [p.input.name for p in pairs("lol", tmp_path, strict=False)] == ["3.png"]
    for i in range(3, 8):
        write(tmp_path / f"eval15/high/{i}.png")
    with pytest.raises(
        FileNotFoundError, match=r"3 of 8 .*: eval15/low/0\.png, eval15/low/1\.png, eval15/low/2\.png\."
    ):
        pairs("lol", tmp_path)


def test_names_that_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no data set 'gopr'\. Nearest: gopro\. Known: div2k-x2, .*, coco\."):
        pairs("gopr", tmp_path)
    with pytest.raises(ValueError, match=r"no data set '\?'\. Known"):
        clean("?", tmp_path)
    with pytest.raises(ValueError, match=r"gopro has no split 'valid': it has train, test"):
        pairs("gopro", tmp_path, "valid")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        pairs("gopro", tmp_path / "none")
    with pytest.raises(
        FileNotFoundError, match=r"nothing of gopro \(test\) is in .*: it is to hold test/\*/blur/\* or"
    ):
        pairs("gopro", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"it is to hold RealBlur_J_train_list\.txt\."):
        pairs("realblur-j", tmp_path, "train")
    write(tmp_path / "kodim01.png")
    with pytest.raises(ValueError, match="kodak24 is a set of clean pictures"):
        pairs("kodak24", tmp_path)


def test_words_with_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse("gopro:a/b") == ("gopro", Path("a/b")) and parse("folder") is None
    with pytest.raises(ValueError, match="no data set 'c'"):
        parse("c:x")
    monkeypatch.chdir(tmp_path)
    Path("c:x").mkdir()
    assert parse("c:x") is None
    assert sf.data.pairs is pairs


CLEAN = {
    "kodak24": ("test", ["kodim01.png", "kodim02.png"], []),
    "mcmaster": ("test", ["1.tif"], []),
    "ffhq": ("train", ["images1024x1024/00000/00000.png"], ["other/1.png"]),
    "celeba-hq": ("test", ["val/female/000004.jpg"], ["train/male/1.jpg"]),
    "lfw": ("test", ["Aaron_Eckhart/Aaron_Eckhart_0001.jpg"], ["Aaron_Eckhart/x.jpg"]),
    "afhq": ("train", ["train/cat/flickr_cat_000002.jpg"], ["val/cat/a.jpg"]),
    "imagenet": ("test", ["val/n01440764/a.JPEG"], ["train/n01440764/b.JPEG"]),
    "places365": ("train", ["data_256/a/airfield/00000001.jpg"], ["val_256/a.jpg"]),
    "summer2winter": ("testB", ["testB/a.jpg"], ["testA/a.jpg"]),
    "coco": ("test", ["val2017/1.jpg"], ["train2017/1.jpg"]),
}


@pytest.mark.parametrize("name", CLEAN)
def test_sets_of_clean_pictures(name: str, tmp_path: Path) -> None:
    split, held, others = CLEAN[name]
    for path in (*held, *others):
        write(tmp_path / path)
    assert clean(name, tmp_path, split) == [tmp_path / path for path in held]


def test_celeba_is_parted_by_its_file(tmp_path: Path) -> None:
    for i in range(1, 5):
        write(tmp_path / f"img_align_celeba/00000{i}.jpg")
    with pytest.raises(FileNotFoundError, match=r"nothing of celeba \(train\)"):
        clean("celeba", tmp_path, "train")
    lines = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n000004.jpg 2\n"
    (tmp_path / "list_eval_partition.txt").write_text(lines)
    names = {split: [p.name for p in clean("celeba", tmp_path, split)] for split in ("train", "valid", "test")}
    assert names == {"train": ["000001.jpg"], "valid": ["000002.jpg"], "test": ["000003.jpg", "000004.jpg"]}


def test_every_row_is_tried_here() -> None:
    alone = {
        name
        for name, splits in LAYOUTS.items()
        if all(isinstance(r, Clean) for rules in splits.values() for r in rules)
    }
    lists = {"realblur-j", "realblur-r", "spa"}
    kinds = {name.rpartition("-x")[0] or name for name in TREES} | {"set14", "bsd100", "urban100"}
    left = {name for name in LAYOUTS if (name.rpartition("-x")[0] or name) not in kinds} - alone - lists
    assert left == {"cbsd68-15", "cbsd68-50"} and alone == {*CLEAN, "celeba"}


def test_the_clean_side_may_have_a_border_and_color(tmp_path: Path) -> None:
    write(tmp_path / "indoor/hazy/1400_1.png", 5, (24, 16))
    clear = Image.new("RGB", (44, 36), (250, 250, 250))
    clear.paste((10, 20, 30), (10, 10, 34, 26))
    (tmp_path / "indoor/gt").mkdir()
    clear.save(tmp_path / "indoor/gt/1400.png")
    (pair,) = pairs("sots-indoor", tmp_path)
    x, truth = pair.read()
    assert x.shape == truth.shape == (3, 16, 24)
    assert torch.allclose(truth * 255, torch.tensor([10.0, 20.0, 30.0]).reshape(3, 1, 1).expand(3, 16, 24), atol=1e-3)
    write(tmp_path / "indoor/gt/1400.png", 5, (20, 40))
    with pytest.raises(ValueError, match=r"differ in size: 16 x 24 and 40 x 20\."):
        pair.read()


def test_sizes_that_differ_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "eval15/low/1.png")
    write(tmp_path / "eval15/high/1.png", size=(24, 17))
    with pytest.raises(ValueError, match=r"low/1\.png and .*high/1\.png differ in size: 16 x 24 and 17 x 24\."):
        pairs("lol", tmp_path)[0].read()
