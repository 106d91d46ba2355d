"""A folder of pictures, restored one by one: what `sfumato restore FOLDER` runs in blocks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from sfumato.cli.console import Console
from sfumato.cli.restore import run
from sfumato.cli.restore_options import Settings

KEPT = ("restored", "sample", "spread")  # of what is written for one picture: its input is in the folder


@dataclass(frozen=True)
class Pictures:
    """The pictures of a folder, by name.

    Each is restored as `sfumato restore FILE --seed S` would, with a seed S of its own: a function of the seed and its
    name alone, which NAME.manifest.json holds. More pictures in the folder change none of the others.
    """

    wanted: Settings
    names: tuple[str, ...]
    paths: tuple[str, ...]
    command = "restore"

    @classmethod
    def of(cls, wanted: Settings) -> Pictures:
        """The pictures and NumPy files of the folder `wanted.file`; of a benchmark set the degraded pictures, or the
        clean ones where they are to be degraded.

        Raises:
            ValueError: if it holds none.
        """
        if wanted.dataset:
            from sfumato.data import layouts

            make = layouts.held if wanted.simulate else layouts.pairs
            found = make(wanted.dataset, wanted.file, wanted.split)
            paths = (str(pair.target if wanted.simulate else pair.input) for pair in found)
            return cls(wanted, tuple(pair.name for pair in found), tuple(paths))
        from sfumato.cli.inputs import ARRAYS
        from sfumato.data.images import suffixes

        folder = wanted.path("file")
        known = {*suffixes(), *ARRAYS}
        names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in known and not p.name.startswith("."))
        if not names:
            raise ValueError(f"{wanted.file} holds no pictures and no NumPy files.")
        return cls(wanted, tuple(names), tuple(str(folder / name) for name in names))

    def __hash__(self) -> int:
        return hash(repr(self))

    @property
    def inputs(self) -> dict[str, object]:
        """What decides the result beside the settings."""
        names = hashlib.sha256("\n".join(self.names).encode()).hexdigest()
        return {"names": names}

    def __call__(self) -> Callable[[range], dict[str, bytes]]:
        """Loads the model, and returns the function from a block's numbers to its files."""
        from sfumato import zoo
        from sfumato.cli import options, outputs
        from sfumato.noise import Noise

        model = zoo.load(self.wanted.model, device=options.device(self.wanted.device))

        def block(items: range) -> dict[str, bytes]:
            files: dict[str, bytes] = {}
            for name, path in ((self.names[i], self.paths[i]) for i in items):
                own = replace(self.wanted, file=path, dataset="", seed=Noise(self.wanted.seed).at(name).seed)
                with outputs.collecting() as (part, found):
                    try:
                        run(own, part / "out", Console(quiet=True, silent=True), model=model)
                    except (ValueError, OSError) as error:
                        raise ValueError(f"{name}: {error}") from error
                    for written in (part / "out").iterdir():
                        written.rename(part / written.name)
                    (part / "out").rmdir()
                files |= {f"{name}.{key}": content for key, content in found.items() if key.startswith(KEPT)}
                files[f"{name}.{outputs.MANIFEST}"] = _lasting(found[outputs.MANIFEST])
            return files

        return block


def _lasting(manifest: bytes) -> bytes:
    """A manifest without what differs from run to run, so that every engine writes the same bytes."""
    content = json.loads(manifest)
    content["outputs"] = {key: digest for key, digest in content["outputs"].items() if key.startswith(KEPT)}
    del content["seconds"]
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
