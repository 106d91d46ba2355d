"""Files that are written beside and renamed."""

from __future__ import annotations

import pytest

from sfumato.data.files import beside


def test_a_file_appears_whole_in_a_new_folder(tmp_path):
    path = tmp_path / "a" / "b" / "c.txt"
    with beside(path) as part:
        part.write_text("new")
        assert not path.exists() and part.parent == path.parent and part.suffix == ".txt"
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_a_failure_keeps_the_file_before_and_leaves_no_litter(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"), beside(path) as part:
        part.write_text("half")
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(KeyboardInterrupt), beside(path):
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
