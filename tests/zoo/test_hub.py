"""The Hub, offline: a folder stands for it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato as sf
from sfumato.recipes.ddpm import Recipe


class Hub:
    """A folder for each repository, in place of huggingface_hub."""

    def __init__(self, root: Path) -> None:
        self.root, self.made, self.said = root, [], []
        self.down: str | None = None

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        assert exist_ok
        self.made.append((repo_id, private))
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id: str, folder_path: str, allow_patterns: list[str], commit_message: str) -> str:
        if self.down:
            raise OSError(self.down)
        self.said.append(commit_message)
        for name in allow_patterns:
            shutil.copy(Path(folder_path) / name, self.root / repo_id / name)
        return f"https://hub/{repo_id}"

    def snapshot_download(self, repo_id: str, *, allow_patterns: list[str]) -> str:
        if self.down:
            raise OSError(self.down)
        assert set(allow_patterns) == {"config.json", "model.safetensors", "README.md"}
        return str(self.root / repo_id)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", found)  # type: ignore[arg-type]
    return found


@pytest.fixture
def model() -> sf.Model:
    recipe = Recipe(widths=(8,), blocks=1, attention=())
    fields: dict[str, Any] = {"widths": [8], "blocks": 1, "attention": []}
    config = {"recipe": "ddpm", "fields": fields, "event": [3, None, None]}
    denoiser = recipe.model().eval()
    torch.nn.init.normal_(denoiser.net.leave.weight, generator=torch.Generator().manual_seed(0))
    return sf.Model(sf.codecs.Affine.unit(), denoiser, config)


def test_a_model_goes_up_and_comes_down(hub: Hub, model: sf.Model) -> None:
    assert model.push_to_hub("me/garments", private=True, message="First") == "https://hub/me/garments"
    assert hub.made == [("me/garments", True)] and hub.said == ["First"]
    page = (hub.root / "me/garments/README.md").read_text()
    assert "# garments\n" in page and 'sf.load("hf://me/garments")' in page and "`ddpm`" in page
    want = model.sample(1, steps=2, size=8)
    for name in ("hf://me/garments", "me/garments", Path("hf://me/garments")):
        assert torch.equal(sf.load(name).sample(1, steps=2, size=8), want)
    model.push_to_hub("hf://me/halves", half=True)
    assert hub.made[-1] == ("me/halves", False)
    sizes = [(hub.root / f"me/{name}/model.safetensors").stat().st_size for name in ("garments", "halves")]
    assert sizes[1] < 0.7 * sizes[0]


def test_what_the_hub_does_not_have_or_take_is_said(hub: Hub, model: sf.Model) -> None:
    (hub.root / "you/pipeline").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"'you/pipeline' on the Hub is no model of this library.*convert"):
        sf.load("hf://you/pipeline")
    hub.down = "no network"
    with pytest.raises(FileNotFoundError, match="the Hub did not give it: no network"):
        sf.load("hf://me/garments")
    with pytest.raises(ConnectionError, match=r"did not take 'me/garments': no network.*model\.save"):
        model.push_to_hub("me/garments")
    for name in ("garments", "a/b/c", "/b", "hf://x"):
        with pytest.raises(ValueError, match="a model on the Hub is owner/name, got "):
            model.push_to_hub(name)
    with pytest.raises(FileNotFoundError, match="no model 'hf://x'"):
        sf.load("hf://x")
    with pytest.raises(ValueError, match="only a model of a recipe can be saved"):
        sf.Model(model.codec, model.denoiser, {}).push_to_hub("me/garments")


def test_without_the_extra_it_is_named(model: sf.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for act in (lambda: sf.load("hf://me/garments"), lambda: model.push_to_hub("me/garments")):
        with pytest.raises(ImportError, match=r"pip install 'sfumato\[hub\]'"):
            act()


def test_the_functions_are_those_of_the_library() -> None:
    import inspect

    library = pytest.importorskip("huggingface_hub", reason="needs the extra `hub`")
    for name in ("create_repo", "upload_folder", "snapshot_download"):
        ours = set(inspect.signature(getattr(Hub, name)).parameters) - {"self"}
        assert ours <= set(inspect.signature(getattr(library, name)).parameters)
