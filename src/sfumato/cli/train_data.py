"""What is trained on: the reader that fits the data, and the fields of a recipe that follow from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from sfumato.noise import Seeds

ARRAYS = (".npy", ".npz")
TEXTS = (".txt",)
TABLES = (".csv", ".tsv", ".parquet", ".pq")
PICTURES: dict[str, Any] = {"size": 64, "channels": 3, "fit": "resize", "classes": False}
WINDOWS = {"text": 128, "sound": 4096, "points": 512, "strokes": 64, "tunes": 128}  # in an item
FEW = 5000  # items below which the preset "small" holds
ONLY = {  # which options mean something for which kind
    "pictures": ("size", "channels", "fit", "classes", "augment"),
    "shards": ("size", "channels", "fit", "classes", "augment"),
    "sound": ("size",),
    "table": ("size",),
    "text": ("size",),
    "array": ("augment",),
    "pairs": ("size", "channels", "damage", "damaged"),
    "points": ("size",),
    "strokes": ("size", "classes"),
    "tunes": ("size",),
}
SUITED = {"points": "point-cloud", "strokes": "handwriting", "tunes": "symbolic-music"}  # kinds that one recipe takes


def kind(data: Path) -> str:
    """pictures, shards, sound, table, text, array, points, strokes, tunes; of NAME:DIR the clean pictures it trains on.

    Raises:
        FileNotFoundError, ValueError: if it is not there, or none of these.
    """
    from sfumato.data.ink import inks
    from sfumato.data.layouts import parse
    from sfumato.data.points import shapes
    from sfumato.data.tunes import SUFFIXES, tunes
    from sfumato.data.wave import sounds

    if parse(str(data)):
        return "pictures"
    if data.is_dir():
        if any(data.glob("*.tar")):
            return "shards"
        if _any_picture(data):
            return "pictures"
        found = {"sound": sounds, "points": shapes, "strokes": inks, "tunes": tunes}
        return next((name for name, look in found.items() if look(data)), "pictures")
    if not data.exists():
        raise FileNotFoundError(f"{data} is not there.")
    suffix = data.suffix.lower()
    kinds = {".tar": "shards", **dict.fromkeys(ARRAYS, "array"), **dict.fromkeys(TEXTS, "text")}
    kinds |= dict.fromkeys(TABLES, "table") | dict.fromkeys(SUFFIXES, "tunes")
    if suffix not in kinds:
        raise ValueError(
            "training data are a folder of pictures, sounds, shapes or .tar shards, or a .npy, .npz, .csv, .parquet, "
            f".tar or .txt file, got {data.name}."
        )
    return kinds[suffix]


def of_pairs(data: Path, what: str, asked: dict[str, Any], recipe: str) -> str:
    """ "pairs", for a recipe of pairs: what the data are to it.

    Raises:
        typer.BadParameter: if it is not said what the damaged pictures are.
    """
    from sfumato.data.layouts import parse

    if what != "pictures":
        raise typer.BadParameter(f"{recipe} is trained on pairs of pictures: give a folder of clean ones.")
    given = [name for name in ("damage", "damaged") if name in asked]
    if len(given) > 1 or not (given or parse(str(data))):
        raise typer.BadParameter(
            f"{recipe} is trained on pairs: say what damages the clean pictures, --damage rain or enlarge:4 (`sfumato "
            "show` of the recipe), or where the damaged ones lie, --damaged FOLDER, one of them."
        )
    return "pairs"


def suited(what: str, recipe: str, make: Any) -> str:
    """The kind of the data to this recipe: an array holds clouds for one of clouds.

    Raises:
        typer.BadParameter: for data that the recipe is not for.
    """
    wants = getattr(make, "takes", None)
    if wants is None and what in SUITED:
        raise typer.BadParameter(f"{recipe} does not take data of the kind {what!r}: {SUITED[what]} does.")
    if wants not in (None, what) and (wants, what) != ("points", "array"):
        raise typer.BadParameter(f"{recipe} is trained on {wants}, these data are of the kind {what!r}.")
    return wants or what


def settle(what: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The settings of a reader, from what was asked for.

    Raises:
        typer.BadParameter: for an option that means nothing for such data.
    """
    for name in ("size", "channels", "fit", "classes", "augment", "damage", "damaged"):
        if name in asked and name not in ONLY[what]:
            right = " and ".join(key for key, names in ONLY.items() if name in names)
            raise typer.BadParameter(f"--{name} is for {right}: these data are of the kind {what!r}; leave it out.")
    if what == "pairs":
        chosen = {name: asked[name] for name in ("damage", "damaged") if name in asked}
        return {name: asked.get(name, PICTURES[name]) for name in ("size", "channels")} | chosen
    if what in ("pictures", "shards"):
        return {name: asked.get(name, value) for name, value in PICTURES.items()}
    return {name: asked[name] for name in ("size", "classes") if name in asked and name in ONLY[what]}


def opened(data: Path, what: str, plan: dict[str, Any]) -> Any:
    """The data as a source of items."""
    from sfumato.data import damages, images, ink, layouts, paired, points, tables, tar_shards, text, tunes, wave
    from sfumato.data.arrays import Arrays
    from sfumato.data.table_windows import TableWindows

    if what == "pairs":
        size, channels = plan["size"], plan["channels"]
        if named := layouts.parse(str(data)):
            if "damage" not in plan:
                return paired.of_set(*named, size, channels)
            found = layouts.clean(*named, "train")
        elif "damaged" in plan:
            return paired.of_folders(data, plan["damaged"], size, channels)
        else:
            found = images.pictures(data)
        return paired.damaged(found, damages.parse(plan["damage"]), size, channels, seed=plan.get("seed", 0))
    if what in ("pictures", "shards"):
        make = images.ImageFolder if what == "pictures" else tar_shards.TarShards
        make = images.CleanPictures if layouts.parse(str(data)) else make
        flip = not plan.get("augment")  # which then mirrors, and says so
        return make(data, plan["size"], plan["channels"], fit=plan["fit"], flip=flip, classes=plan["classes"])
    if what == "sound":
        return wave.WaveFolder(data, plan.get("size", WINDOWS["sound"]))
    if what == "table":
        return TableWindows(tables.read_table(data), plan.get("size"))
    if what == "tunes":
        return tunes.Tunes.read(data, plan.get("size", WINDOWS["tunes"]))
    if what == "strokes":
        return ink.Ink.read(data, plan.get("size", WINDOWS["strokes"]), classes=plan.get("classes", False))
    if what == "points":
        if data.is_dir():
            return points.Clouds.read(data, plan.get("size", WINDOWS["points"]))
        return points.Clouds.of_array(array(data), plan.get("size"))
    if what == "text":
        return text.Text(text.read(data), plan.get("size", WINDOWS["text"]))
    return Arrays.read(data)


def heard(source: Any, recipe: Any) -> tuple[Any, Any]:
    """The recipe with what the sounds decide, and the sounds with what it is told of them."""
    from sfumato.data.wave import Heard, peaked

    if source.event[-1] % recipe.hop:
        raise typer.BadParameter(
            f"a window is a multiple of the hop of {recipe.hop} samples: --size is {source.event[-1]}."
        )
    recipe = recipe.fitted(peaked(source).encode(source.windows.unsqueeze(1)))
    return recipe, Heard(source, recipe.damaged, recipe.told)


def array(data: Path) -> Any:
    """The one array of a .npy or .npz file, "x" where there are several."""
    from sfumato.data.numpy_files import read_arrays

    held = read_arrays(data)
    if "x" not in held and len(held) != 1:
        raise ValueError(f'{data} holds {", ".join(held) or "nothing"}: name the data "x".')
    return held.get("x", next(iter(held.values())))


def categories(source: Any, make: Any, recipe: str, known: Sequence[str], chosen: dict[str, Any]) -> Any:
    """The source as the recipe takes it: levels of pictures, or symbols of text, where it is one on categories."""
    from sfumato.data.arrays import Arrays
    from sfumato.data.levels import Levels
    from sfumato.data.text import Text
    from sfumato.recipes.tokens import Tokens

    if isinstance(source, Text):
        if "length" not in known:
            raise typer.BadParameter(f"{recipe} is not for text: ardm, mdlm and d3pm are.")
        if "levels" in chosen and chosen["levels"] != len(source.codec.symbols):
            raise typer.BadParameter("levels is decided by the text: leave --set levels out.")
        return source
    if getattr(source, "missing", False) and "strategy" not in known:
        raise typer.BadParameter(f"numbers are missing in the table, which {recipe} does not take: csdi does.")
    if not issubclass(make, Tokens):  # a field `levels` may also count levels of noise
        return source
    if len(source.event) != 3 or (isinstance(source, Arrays) and not source.pictures):
        raise typer.BadParameter(f"{recipe} is for pictures of whole numbers, or text: these are real numbers.")
    return Levels(source, chosen.get("levels", 256))


def guess(source: Any, *, whole: bool) -> dict[str, Any]:
    """Fields that the data decide, or suggest."""
    from sfumato.data.text import Text

    if hasattr(source, "fields"):  # that such data decide, for its own recipe
        return dict(source.fields(len(source) < FEW))
    if isinstance(source, Text):
        few = {"width": 128, "depth": 4, "heads": 4, "dropout": 0.1 if len(source) < FEW else 0.0}  # (ours)
        return {**few, "length": source.event[0], "levels": len(source.codec.symbols), "logistic": False}
    sizes = {"channels": source.event[0], "dims": len(source.event) - 1, "classes": len(source.names)}
    rate = {"hertz": source.rate} if hasattr(source, "rate") else {}
    series = {"strategy": "prior", "scheme": "v"} if hasattr(source, "columns") else {}  # windows, without a condition
    return network(source.event, len(source), whole=whole) | sizes | rate | series


def network(event: tuple[int, ...], items: int, *, whole: bool) -> dict[str, Any]:
    """Fields of the U-Net for items of this shape (ours): levels down to about 4 positions a side; attention on the
    coarsest where things are seen whole; dropout where there are few."""
    side, dims = min(event[1:]), len(event) - 1
    patch = 2 if side >= 24 else 1
    levels = min(3, max(1, int(math.log2(max(side / patch / 4, 1))) + 1))
    coarse = math.prod(math.ceil(n / (patch * 2 ** (levels - 1))) for n in event[1:])
    return {
        "widths": {1: (64,), 2: (64, 128), 3: (64, 96, 128)}[levels],
        "patch": patch,
        "attention": (levels - 1,) if whole and coarse <= 256 else (),
        "dims": dims,
        "dropout": 0.1 if items < FEW else 0.0,
    }


def spread(source: Any, seed: int) -> float:
    """Standard deviation of the data in model space, two digits, from up to 256 items."""
    from sfumato.noise import Seeds

    items = list(range(0, len(source), max(1, len(source) // 256)))[:256]
    x0, _ = source.batch(items, Seeds.keyed(seed, (("spread", item) for item in items)))
    return max(0.05, round(float(x0.std()), 2))


class Recoded:
    """The items of `source` in the model space of another codec, without their classes if that is asked for."""

    def __init__(self, source: Any, codec: Any, *, labelled: bool = True) -> None:
        self.source, self.codec, self.labelled = source, codec, labelled
        self.event, self.names = source.event, source.names if labelled else ()

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, items: list[int], noise: Seeds) -> tuple[Tensor, Any]:
        """(x0, cond) of these items."""
        x0, cond = self.source.batch(items, noise)
        if self.codec != self.source.codec:
            x0 = self.codec.encode(self.source.codec.decode(x0))
        return x0, cond if self.labelled else None


def _any_picture(folder: Path) -> bool:
    from sfumato.data.images import suffixes

    known = suffixes()
    return any(file.suffix.lower() in known for file in folder.rglob("*"))
