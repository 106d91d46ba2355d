"""Benchmark sets by name: where their pictures lie as they are distributed, and how degraded and clean ones pair.

    from sfumato.data import pairs
    for pair in pairs("gopro", "GOPRO_Large", split="test"):
        pair.name, pair.input, pair.target

A set is a row of `LAYOUTS`: for each split one or more rules, of which the first that finds a file holds (sets are
passed on in several forms). Nothing is shipped, and nothing is downloaded.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from sfumato.data.pairing import Clean, Listed, Pair, Rule, Swap


def pairs(name: str, root: str | Path, split: str = "test", *, strict: bool = True) -> list[Pair]:
    """The pairs of a set, sorted.

    Args:
        name: a key of `LAYOUTS`.
        root: the folder of the set as it is unpacked, or the one that holds it.
        split: "train" or "test"; some sets have others.
        strict: False leaves out what has no clean picture.

    Raises:
        ValueError: for an unknown name or split, with those that are known; for a set of clean pictures only.
        FileNotFoundError: if nothing of the set is there, or clean pictures are missing, which are named.
    """
    rule, found = _found(name, Path(root), split, strict=strict)
    if isinstance(rule, Clean):
        raise ValueError(f"{name} is a set of clean pictures, it has no degraded ones: simulate them.")
    return found


def held(name: str, root: str | Path, split: str = "test") -> list[Pair]:
    """As `pairs`; where the set has no degraded pictures, each clean one is its own partner."""
    return _found(name, Path(root), split, strict=True)[1]


def clean(name: str, root: str | Path, split: str = "test") -> list[Path]:
    """The clean pictures of a set, each once, in the order of the pairs.

    Raises:
        ValueError, FileNotFoundError: as `pairs`.
    """
    return list(dict.fromkeys(pair.target for pair in held(name, root, split)))


def parse(word: str) -> tuple[str, Path] | None:
    """(name, folder) of NAME:DIR if NAME is a known set; None for what is no such word.

    Raises:
        ValueError: for an unknown name before a colon, if the word is not the path of something.
    """
    name, colon, folder = word.partition(":")
    if not colon or (name not in LAYOUTS and Path(word).exists()):
        return None
    return _known(name), Path(folder)


def _known(name: str) -> str:
    if name not in LAYOUTS:
        near = difflib.get_close_matches(name, LAYOUTS, 1)
        hint = f" Nearest: {near[0]}." if near else ""
        raise ValueError(f"no data set {name!r}.{hint} Known: {', '.join(LAYOUTS)}.")
    return name


def _found(name: str, root: Path, split: str, *, strict: bool) -> tuple[Rule, list[Pair]]:
    splits = LAYOUTS[_known(name)]
    if split not in splits:
        raise ValueError(f"{name} has no split {split!r}: it has {', '.join(splits)}.")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder.")
    for home in (root, *sorted(folder for folder in root.iterdir() if folder.is_dir())):
        for rule in splits[split]:
            if held := list(rule.pairs(home)):
                missing = [path for path, target in held if target is None]
                if strict and missing:
                    some = ", ".join(path.relative_to(root).as_posix() for path in missing[:5])
                    dots = ", ..." if len(missing) > 5 else ""
                    raise FileNotFoundError(f"{len(missing)} of {len(held)} have no clean picture: {some}{dots}.")
                centre = getattr(rule, "centre", False)
                return rule, [Pair(_name(a, home), a, b, centre) for a, b in held if b is not None]
    where = " or ".join(getattr(rule, "file", "") or getattr(rule, "inputs", "") for rule in splits[split])
    raise FileNotFoundError(f"nothing of {name} ({split}) is in {root}: it is to hold {where}.")


def _name(path: Path, home: Path) -> str:
    return path.relative_to(home).as_posix().replace("/", "__")


def _both(train: Rule | tuple[Rule, ...], test: Rule | tuple[Rule, ...]) -> dict[str, tuple[Rule, ...]]:
    each = {"train": train, "test": test}
    return {split: rule if isinstance(rule, tuple) else (rule,) for split, rule in each.items()}


def _test(*rules: Rule) -> dict[str, tuple[Rule, ...]]:
    return {"test": rules}


def _same(folder: str, degraded: str, clean: str) -> Swap:
    """Equal names in two sibling folders."""
    return Swap(f"{folder}{degraded}/*", rf"(^|/){degraded}/([^/]*)$", (rf"\1{clean}/\2",))


def _strip(folder: str, degraded: str, *clean: str, deep: str = "", centre: bool = False) -> Swap:
    """The clean name is what stands before the first "_"."""
    this = rf"{degraded}/{'(?:[^/]*/)?' if deep else ''}([^/_]*)[^/]*$"
    return Swap(f"{folder}{degraded}/{deep}*", this, tuple(rf"{name}/\1" for name in clean), centre=centre)


def _scaled(s: int) -> dict[str, dict[str, tuple[Rule, ...]]]:
    """Sets of super-resolution by s."""
    suffix = rf"([^/]*)x{s}$"
    div2k = {
        split: Swap(f"DIV2K_{part}_LR_bicubic/X{s}/*", rf"_LR_bicubic/X{s}/{suffix}", (r"_HR/\1",))
        for split, part in (("train", "train"), ("test", "valid"))
    }
    own = Swap(f"image_SRF_{s}/*_LR.*", "_LR$", ("_HR",))
    real = [Swap(f"*/{part}/{s}/*_LR{s}.*", f"_LR{s}$", ("_HR",)) for part in ("Train", "Test")]
    dreal = [
        Swap(f"{part}_x{s}/{part.lower()}_LR/*", r"_LR/([^/]*)_x1$", (rf"_HR/\1_x{s}",)) for part in ("Train", "Test")
    ]
    flickr = Swap(f"Flickr2K_LR_bicubic/X{s}/*", rf"_LR_bicubic/X{s}/{suffix}", (r"_HR/\1",))
    return {
        f"div2k-x{s}": _both(div2k["train"], div2k["test"]),
        f"flickr2k-x{s}": {"train": (flickr,)},
        **{f"{name}-x{s}": _test(own) for name in ("set5", "set14", "bsd100", "urban100")},
        f"realsr-x{s}": _both(*real),
        f"drealsr-x{s}": _both(*dreal),
    }


def _realblur(kind: str) -> dict[str, tuple[Rule, ...]]:
    return _both(*(Listed(f"RealBlur_{kind}_{split}_list.txt") for split in ("train", "test")))


def _rain100(kind: str, whole: str) -> dict[str, tuple[Rule, ...]]:
    """Rain100H and Rain100L in their four forms: IR-SDE's, clean files one folder up, two folders, Rain13K's."""

    def ir_sde(split: str) -> Swap:
        return _same(f"{split}{kind}/", "LQ", "GT")

    original = Swap(f"rain_data_train_{whole}/rain/X2/*", r"/rain/X2/([^/]*)x2$", (r"/\1",))
    flat = Swap(f"RainTrain{kind}/rain-*", r"/rain-", ("/norain-",), skip="^norain")
    above = Swap("rainy/rain-*", r"rainy/rain-", ("norain-",))
    return _both((ir_sde("train"), original, flat), (ir_sde("test"), above, _same("", "rain", "norain")))


def _snow(size: str) -> tuple[Rule, ...]:
    """As the archive unpacks, and the folder by itself."""
    deep = "media/jdway/GameSSD/overlapping/test/"
    return tuple(_same(f"{folder}Snow100K-{size}/", "synthetic", "gt") for folder in (deep, ""))


_GOPRO = {split: _same(f"{split}/", "input", "target") for split in ("train", "test")}
_SRD = (r"/shadow/([^/]*)$", (r"/shadow_free/\1_no_shadow", r"/shadow_free/\1_free", r"/shadow_free/\1"))

LAYOUTS: dict[str, dict[str, tuple[Rule, ...]]] = {
    **_scaled(2),
    **_scaled(3),
    **_scaled(4),
    # deblurring
    "gopro": _both(
        (_same("train/*/", "blur", "sharp"), _GOPRO["train"]), (_same("test/*/", "blur", "sharp"), _GOPRO["test"])
    ),
    "gopro-gamma": _both(_same("train/*/", "blur_gamma", "sharp"), _same("test/*/", "blur_gamma", "sharp")),
    "hide": _both(
        Swap("train/*", r"^train/", ("GT/",)),
        Swap("test/test-*/*", r"^test/[^/]*/", ("GT/",)),
    ),
    "realblur-j": _realblur("J"),
    "realblur-r": _realblur("R"),
    "reds": _both(
        Swap("train/train_blur/*/*", "train_blur/", ("train_sharp/",)),
        Swap("val/val_blur/*/*", "val_blur/", ("val_sharp/",)),
    ),
    # denoising
    **{f"cbsd68-{sigma}": _test(_same("", f"noisy{sigma}", "original_png")) for sigma in (15, 25, 50)},
    "kodak24": _test(Clean("kodim*"), Clean("*")),
    "mcmaster": _test(Clean("*")),
    # rain, snow, haze
    "rain100h": _rain100("H", "Heavy"),
    "rain100l": _rain100("L", "Light"),
    "rain13k": {
        "train": (_same("train/*/", "input", "target"), _same("train/", "input", "target")),
        "test": (_same("test/*/", "input", "target"),),
        **{
            name: (_same(f"test/{name}/", "input", "target"),)
            for name in ("Test100", "Rain100H", "Rain100L", "Test1200", "Test2800")
        },
    },
    "ddn": _both(
        *(_strip(f"{part}/", "rainy_image", "ground_truth", "ground truth") for part in ("training", "testing"))
    ),
    "spa": _both(
        Listed("Training/real_world.txt", (0, 1)),
        (Listed("Testing/real_test_1000.txt", (0, 1)),
         Swap("Testing/real_test_1000/rain/*", r"/rain/([^/]*)$", (r"/gt/\1gt",))),
    ),
    "outdoor-rain": _both(
        Swap("train/data/*", r"/data/([^/]{7})[^/]*$", (r"/gt/\1",), skip=r"^im_03(0[1-9]|[1-4]\d|50)_"),
        Swap("test/data/*", r"/data/([^/]{7})[^/]*$", (r"/gt/\1",)),
    ),
    "raindrop": {
        split: (Swap(f"{split if split != 'test' else 'test_a'}/data/*", r"/data/([^/]*)_rain$", (r"/gt/\1_clean",)),)
        for split in ("train", "test", "test_b")
    },
    "allweather": {"train": (_same("", "input", "gt"),)},
    "snow100k": {
        "train": (_same("all/", "synthetic", "gt"),),
        "test": _snow("L"),
        **{size: _snow(size) for size in "SML"},
    },
    "csd": _both(
        (_same("Train/", "Snow", "Gt"), _same("train2500/", "Snow", "Gt")),
        (_same("Test/", "Snow", "Gt"), _same("test2000/", "Snow", "Gt")),
    ),
    "srrs": _both(_same("train2500/", "Snow", "Gt"), _same("test2000/", "Snow", "Gt")),
    "its": {"train": (_strip("", "hazy", "clear"),)},
    "ots": {"train": (_strip("", "hazy", "clear", deep="part*/"), _strip("", "hazy", "clear"))},
    "sots-indoor": _test(
        _strip("indoor/", "hazy", "gt", "clear", centre=True), _strip("", "hazy", "gt", "clear", centre=True)
    ),
    "sots-outdoor": _test(_strip("outdoor/", "hazy", "gt", "clear"), _strip("", "hazy", "gt", "clear")),
    "haze4k": _both(*(_strip(f"{split}/", "haze", "gt") for split in ("train", "test"))),
    "dense-haze": _test(Swap("hazy/*_hazy.*", "hazy/([^/]*)_hazy$", (r"GT/\1_GT",))),
    "nh-haze": _test(
        Swap("hazy/*_hazy.*", "hazy/([^/]*)_hazy$", (r"GT/\1_GT",)), Swap("*_hazy.*", "_hazy$", ("_GT",))
    ),
    # shadow, light
    "istd": _both(_same("train/", "train_A", "train_C"), _same("test/", "test_A", "test_C")),
    "istd+": _both(
        (_same("train/", "train_A", "train_C_fixed_ours"), _same("train/", "train_A", "train_C_fixed_official")),
        _same("test/", "test_A", "test_C_fixed_official"),
    ),
    "srd": _both(
        (Swap("Train/shadow/*", *_SRD), _same("", "train_A", "train_C")),
        (Swap("test/shadow/*", *_SRD), _same("", "test_A", "test_C")),
    ),
    "lol": _both(_same("our485/", "low", "high"), _same("eval15/", "low", "high")),
    "lol-v2-real": _both(
        *(
            Swap(f"Real_captured/{part}/Low/*", r"/Low/low([^/]*)$", (r"/Normal/normal\1",))
            for part in ("Train", "Test")
        )
    ),
    "lol-v2-synthetic": _both(*(_same(f"Synthetic/{part}/", "Low", "Normal") for part in ("Train", "Test"))),
    "lsrw": _both(*(_same(f"*/{part}/", "low", "high") for part in ("Train", "Eval"))),
    # faces, generation
    "ffhq": {"train": (Clean("images1024x1024/**/*"), Clean("thumbnails128x128/**/*"))},
    "celeba": {
        split: (Clean("img_align_celeba/*", ("list_eval_partition.txt", part)),)
        for split, part in (("train", "0"), ("valid", "1"), ("test", "2"))
    },
    "celeba-hq": {
        "train": (Clean("train/*/*"), Clean("*")),
        "test": (Clean("val/*/*"),),
    },
    "lfw": _test(Clean("*/*_[0-9][0-9][0-9][0-9].*")),
    "afhq": {"train": (Clean("train/*/*"),), "test": (Clean("test/*/*"), Clean("val/*/*"))},
    "imagenet": _both(Clean("train/n*/*"), (Clean("val/n*/*"), Clean("val/*"))),
    "places365": _both(
        (Clean("data_256/**/*"), Clean("data_large/**/*")), (Clean("val_256/*"), Clean("val_large/*"))
    ),
    "summer2winter": {part: (Clean(f"{part}/*"),) for part in ("trainA", "trainB", "testA", "testB")},
    "coco": _both(Clean("train2017/*"), Clean("val2017/*")),
}  # fmt: skip
