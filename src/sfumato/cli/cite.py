"""`sfumato cite KEY`: the paper as BibTeX."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sfumato import recipes
from sfumato.cli.console import Console
from sfumato.cli.options import Json
from sfumato.cli.show import one_of_all

JOURNALS = ("arxiv", "preprint", "neural computation", "neurocomputing", "jmlr", "tmlr", "tpami")
OTHERS = ("", "web", "tutorial", "code")


def command(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys of `sfumato list`.")], as_json: Json = False
) -> None:
    """Print the paper of each method as BibTeX."""
    console = Console(as_json=as_json)
    entries = {entry.key: entry for entry in recipes.catalogue()}
    for key in keys:
        one_of_all(key)
        if key not in entries:
            raise typer.BadParameter(
                f"{key!r} is a part of this library and no entry of the catalogue: `sfumato show {key}`."
            )
    for key in keys:
        text = bibtex(entries[key])
        console.emit("item", key=key, bibtex=text)
        console.data(text)


def bibtex(entry: recipes.Entry) -> str:
    """A BibTeX entry: an article where the venue is a journal or arXiv, misc for the web, else of the proceedings."""
    year = re.search(r"\b(?:19|20)\d{2}\b", entry.venue) or re.search(r"\b(?:19|20)\d{2}\b", entry.reference)
    venue = " ".join(re.sub(r"\b(?:19|20)\d{2}\b|\(Oral\)", "", entry.venue).split())
    kind = "article" if venue.lower() in JOURNALS else "misc" if venue.lower() in OTHERS else "inproceedings"
    eprint = re.search(r"arXiv (\d{4}\.\d{4,5})", entry.reference)
    authors = [name.strip() for name in re.sub(r",? et al\.?", ", others", entry.authors).split(",")]
    fields = {
        "title": f"{{{entry.title}}}",
        "author": " and ".join(name for name in authors if name),
        {"article": "journal", "misc": "howpublished", "inproceedings": "booktitle"}[kind]: venue,
        "year": year.group() if year else "",
        "eprint": eprint.group(1) if eprint else "",
        "archivePrefix": "arXiv" if eprint else "",
        "note": "" if eprint else entry.reference,
    }
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
    return f"@{kind}{{{entry.key},\n{body}\n}}"
