"""Models on the Hugging Face Hub: one folder down, one folder up (extra `hub`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FILES = ["config.json", "model.safetensors", "README.md"]

CARD = """---
library_name: sfumato
tags: [diffusion]
---
# {name}

A diffusion model of the recipe `{recipe}`. To draw from it:

```python
import sfumato as sf

pictures = sf.load("hf://{hub_id}").sample(4, seed=0)
```
"""


def download(hub_id: str) -> Path:
    """The folder of a model (owner/name), from the Hub or from what was downloaded before.

    Raises:
        ImportError: without the extra.
        FileNotFoundError: if the Hub has no such model, or cannot be reached.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError(
            f"{hub_id!r} is no folder here; to take it from the Hub: pip install 'sfumato[hub]'."
        ) from error
    try:
        folder = Path(snapshot_download(hub_id, allow_patterns=FILES))
    except Exception as error:
        raise FileNotFoundError(f"no folder {hub_id!r}, and the Hub did not give it: {error}") from error
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{hub_id!r} on the Hub is no model of this library: it has no config.json. If it is a checkpoint of "
            "another code, download it and use `sfumato convert`."
        )
    return folder


def upload(folder: Path, hub_id: str, *, private: bool, message: str) -> str:
    """Uploads a model's folder to owner/name, made if it is not there; a README.md comes with it. Returns the address.

    Raises:
        ValueError: for an id that is not owner/name.
        ImportError: without the extra.
        ConnectionError: if the Hub cannot be reached, or does not let it in.
    """
    hub_id = hub_id.removeprefix("hf://")
    if hub_id.count("/") != 1 or not all(hub_id.split("/")):
        raise ValueError(f"a model on the Hub is owner/name, got {hub_id!r}.")
    try:
        from huggingface_hub import create_repo, upload_folder
    except ImportError as error:
        raise ImportError("to put a model on the Hub: pip install 'sfumato[hub]'.") from error
    try:
        create_repo(hub_id, private=private, exist_ok=True)
        found: Any = upload_folder(
            repo_id=hub_id, folder_path=str(folder), allow_patterns=FILES, commit_message=message
        )
    except Exception as error:
        raise ConnectionError(
            f"the Hub did not take {hub_id!r}: {error}. `hf auth login` says who you are; `model.save(FOLDER)` keeps "
            "the model here."
        ) from error
    return str(found)
