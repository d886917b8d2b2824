"""Archives of recordings and of pages: one reader per form, chosen by what lies in the folder."""

from pathlib import Path

from ...errors import UserError
from .base import Archive, ArchiveEntry
from .page_folder import PAGES_TABLE, PageFolderArchive
from .ptbxl import PTBXL_TABLE, PtbXlArchive
from .wfdb_folder import WfdbFolderArchive

__all__ = ["Archive", "ArchiveEntry", "PageFolderArchive", "PtbXlArchive", "WfdbFolderArchive", "open_archive"]


def open_archive(path: str | Path) -> Archive:
    """The archive in a local folder: PTB-XL or labelled pages by their tables, otherwise WFDB records.

    Raises:
        UserError: no such folder, or nothing in it that is an archive.
    """
    root = Path(path).expanduser().absolute()
    if not root.exists():
        raise UserError(f"no such folder: {path}")
    if not root.is_dir():
        raise UserError(f"{path} is a file; give the folder of the archive")
    if (root / PTBXL_TABLE).is_file():
        return PtbXlArchive(root=root)
    if (root / PAGES_TABLE).is_file():
        return PageFolderArchive(root=root)
    if nested := next(root.glob(f"*/{PTBXL_TABLE}"), None):
        raise UserError(f"{path} holds PTB-XL in a folder of its own; give {nested.parent}")
    if next(root.rglob("*.hea"), None) is None:
        raise UserError(f"no archive in {path}: no {PTBXL_TABLE}, no {PAGES_TABLE} and no .hea file found")
    return WfdbFolderArchive(root=root, name="practice" if (root / "truth.csv").is_file() else "cinc")
